/** A file that is no trace, or that cannot be read or written; the message begins with its path. */
export class TraceFileError extends Error {
  override name = 'TraceFileError';
}
