/** A thread that copies memory of another process by ioctl 62, piece by piece (copy_protocol.ts). */
import { parentPort, workerData } from 'node:worker_threads';
import { IOCTL } from '../device/abi/ioctls.ts';
import { decode, encode } from '../device/abi/layout.ts';
import { NV_OK } from '../device/abi/status.ts';
import { type Libc, loadLibc } from '../device/linux/libc.ts';
import type { CopyDone, CopyRequest, CopyWindow, CopyWorkerData } from './copy_protocol.ts';

const READ = IOCTL.TOOLS_READ_PROCESS_MEMORY;

function copyPieces(libc: Libc, uvmFd: number, window: CopyWindow): CopyDone {
  const next = new Int32Array(window.next);
  let bytes = 0;
  for (;;) {
    const offset = Atomics.add(next, 0, 1) * window.piece;
    if (offset >= window.length) return { bytes, failure: null };
    const size = Math.min(window.piece, window.length - offset);
    const at = BigInt(offset);
    const params = encode(READ.params, { buffer: window.to + at, size, targetVa: window.from + at });
    const errno = libc.ioctl(uvmFd, READ.number, params);
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
  const { uvmFd } = workerData as CopyWorkerData;
  const libc = await loadLibc();
  port.on('message', (request: CopyRequest) => {
    if (request.kind === 'end') port.close();
    else port.postMessage(copyPieces(libc, uvmFd, request));
  });
  port.postMessage({ bytes: 0, failure: null } satisfies CopyDone);
}
