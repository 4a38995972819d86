/** A thread that copies memory of another process by ioctl 62, piece by piece (copy_protocol.ts). */
import { parentPort } from 'node:worker_threads';
import { IOCTL } from '../../device/abi/ioctls.ts';
import { decode, encode } from '../../device/abi/layout.ts';
import { NV_OK } from '../../device/abi/status.ts';
import { type Libc, loadLibc } from '../../device/linux/libc.ts';
import type { CopyDone, CopyWindow } from './copy_protocol.ts';

const READ = IOCTL.TOOLS_READ_PROCESS_MEMORY;

function copyPieces(libc: Libc, window: CopyWindow): CopyDone {
  const next = new Int32Array(window.next);
  let bytes = 0;
  for (;;) {
    const offset = Atomics.add(next, 0, 1) * window.piece;
    if (offset >= window.length) return { bytes, failure: null };
    const size = Math.min(window.piece, window.length - offset);
    const at = BigInt(offset);
    const params = encode(READ.params, { buffer: window.to + at, size, targetVa: window.from + at });
    const errno = libc.ioctl(window.uvmFd, READ.number, params);
    const { rmStatus, bytesRead } = decode(READ.params, params);
    bytes += Number(bytesRead);
    if (errno === 0 && rmStatus === NV_OK) continue;
    // Nobody needs the pieces behind it.
    Atomics.store(next, 0, Math.ceil(window.length / window.piece));
    return { bytes, failure: { offset, bytesRead: Number(bytesRead), errno, status: rmStatus } };
  }
}

const port = parentPort;
if (port !== null) {
  const libc = await loadLibc();
  port.on('message', (window: CopyWindow) => port.postMessage(copyPieces(libc, window)));
}
