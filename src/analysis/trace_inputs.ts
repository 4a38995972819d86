/** What openTrace takes, for messages and help: apart, so that help loads nothing else. */
export const TRACE_INPUTS = '.parquet, .uvmrec, .json, .jsonl, .jsonl.gz, or .sqlite of Nsight Systems';
