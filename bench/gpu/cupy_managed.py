"""Two things that CuPy does on managed memory: a sort, or a matrix product with its result read by the CPU.

    python3 cupy_managed.py sort | matmul

Its pool is limited to 200 MiB, which is little for any GPU.
"""
import sys

import cupy as cp
import numpy as np

pool = cp.cuda.MemoryPool(cp.cuda.malloc_managed)
pool.set_limit(200 * 2**20)
cp.cuda.set_allocator(pool.malloc)

what = sys.argv[1]
rng = np.random.default_rng(1)
if what == "sort":
    values = cp.asarray(rng.standard_normal(4 * 2**20, dtype=np.float32))
    ordered = cp.sort(values)
    cp.cuda.runtime.deviceSynchronize()
    # The CPU reads the result where it lies: the pages come back by themselves.
    view = np.frombuffer((np.ctypeslib.as_ctypes_type(np.float32) * ordered.size).from_address(ordered.data.ptr), np.float32)
    print("sorted", bool(np.all(view[:-1] <= view[1:])))
elif what == "matmul":
    a = cp.asarray(rng.standard_normal((1536, 1536), dtype=np.float32))
    b = cp.asarray(rng.standard_normal((1536, 1536), dtype=np.float32))
    for _ in range(3):
        c = a @ b
    cp.cuda.runtime.deviceSynchronize()
    view = np.frombuffer((np.ctypeslib.as_ctypes_type(np.float32) * c.size).from_address(c.data.ptr), np.float32)
    print("trace", float(np.trace(view.reshape(c.shape))))
    # A second round from the CPU's side: it changes a, and the GPU wants it back.
    np.frombuffer((np.ctypeslib.as_ctypes_type(np.float32) * a.size).from_address(a.data.ptr), np.float32)[:1000000] += 1
    c = a @ b
    cp.cuda.runtime.deviceSynchronize()
else:
    raise SystemExit(f"{what}: expected sort or matmul")
