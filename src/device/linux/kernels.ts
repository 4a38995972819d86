/**
 * The kernels of scenario steps as PTX text, which the driver compiles for its GPU (compute capability 7.0 and later).
 * What they touch and in which order is what the recordings' own kernels did (recordings/README.md, docs/formats.md).
 */

/** Modes of `touch`. */
export const TOUCH_READ = 0;
export const TOUCH_WRITE = 1;
export const TOUCH_ATOMIC = 2;

const HEAD = `.version 7.0
.target sm_70
.address_size 64
`;

/**
 * One thread touches the first word of pages base + 4096 * list[i], one after another: `zero` is 0, and each address
 * hangs on the last value through it, which neither compiler nor GPU can know. A write stores `value`, fences the
 * system and reads the word back.
 */
const TOUCH = `
.visible .entry touch(.param .u64 list, .param .u32 count, .param .u32 mode, .param .u64 base,
                      .param .u32 value, .param .u32 zero, .param .u64 out)
{
  .reg .pred %p<4>;
  .reg .b32 %r<12>;
  .reg .b64 %rd<8>;
  ld.param.u64 %rd1, [list];
  ld.param.u32 %r1, [count];
  ld.param.u32 %r2, [mode];
  ld.param.u64 %rd2, [base];
  ld.param.u32 %r3, [value];
  ld.param.u32 %r4, [zero];
  ld.param.u64 %rd3, [out];
  setp.eq.u32 %p2, %r2, 1;
  setp.eq.u32 %p3, %r2, 2;
  mov.u32 %r5, 0;
  mov.u32 %r6, 0;
  mov.u32 %r7, 0;
NEXT:
  setp.ge.u32 %p1, %r5, %r1;
  @%p1 bra DONE;
  mul.wide.u32 %rd4, %r5, 4;
  add.s64 %rd5, %rd1, %rd4;
  ld.global.u32 %r8, [%rd5];
  and.b32 %r9, %r6, %r4;
  add.u32 %r8, %r8, %r9;
  mul.wide.u32 %rd6, %r8, 4096;
  add.s64 %rd7, %rd2, %rd6;
  @%p2 bra WRITE;
  @%p3 bra ATOMIC;
  ld.volatile.global.u32 %r6, [%rd7];
  bra TAKEN;
WRITE:
  st.volatile.global.u32 [%rd7], %r3;
  membar.sys;
  ld.volatile.global.u32 %r6, [%rd7];
  bra TAKEN;
ATOMIC:
  atom.global.add.u32 %r6, [%rd7], 1;
TAKEN:
  add.u32 %r7, %r7, %r6;
  add.u32 %r5, %r5, 1;
  bra NEXT;
DONE:
  st.global.u32 [%rd3], %r7;
  ret;
}
`;

/** One thread stores 1, 2, ... `writes` in the word at `page`, fences the system, and pauses `cycles` after each. */
const POUND = `
.visible .entry pound(.param .u64 page, .param .u32 writes, .param .u64 cycles, .param .u64 out)
{
  .reg .pred %p<3>;
  .reg .b32 %r<6>;
  .reg .b64 %rd<8>;
  ld.param.u64 %rd1, [page];
  ld.param.u32 %r1, [writes];
  ld.param.u64 %rd2, [cycles];
  ld.param.u64 %rd3, [out];
  mov.u32 %r2, 0;
  mov.u32 %r4, 0;
NEXT:
  setp.ge.u32 %p1, %r2, %r1;
  @%p1 bra DONE;
  add.u32 %r2, %r2, 1;
  st.volatile.global.u32 [%rd1], %r2;
  membar.sys;
  ld.volatile.global.u32 %r3, [%rd1];
  add.u32 %r4, %r4, %r3;
  mov.u64 %rd4, %clock64;
PAUSE:
  mov.u64 %rd5, %clock64;
  sub.s64 %rd6, %rd5, %rd4;
  setp.lt.u64 %p2, %rd6, %rd2;
  @%p2 bra PAUSE;
  bra NEXT;
DONE:
  st.global.u32 [%rd3], %r4;
  ret;
}
`;

/** Puts the index of the thread in the grid into %rd1 and the number of threads into %rd2. */
const GRID = `
  mov.u32 %r1, %ctaid.x;
  mov.u32 %r2, %ntid.x;
  mov.u32 %r3, %tid.x;
  mov.u32 %r4, %nctaid.x;
  mul.wide.u32 %rd1, %r1, %r2;
  cvt.u64.u32 %rd3, %r3;
  add.s64 %rd1, %rd1, %rd3;
  mul.wide.u32 %rd2, %r4, %r2;
`;

/** Grid-stride loop over 16-byte elements: one load each, added up; the sum is stored if it is a value it cannot be. */
const STREAM_READ = `
.visible .entry streamRead(.param .u64 base, .param .u64 elements, .param .u64 out)
{
  .reg .pred %p<3>;
  .reg .b32 %r<16>;
  .reg .b64 %rd<10>;
${GRID}
  ld.param.u64 %rd4, [base];
  ld.param.u64 %rd5, [elements];
  ld.param.u64 %rd8, [out];
  mov.u32 %r9, 0;
NEXT:
  setp.ge.u64 %p1, %rd1, %rd5;
  @%p1 bra DONE;
  shl.b64 %rd6, %rd1, 4;
  add.s64 %rd7, %rd4, %rd6;
  ld.global.v4.u32 {%r5, %r6, %r7, %r8}, [%rd7];
  add.u32 %r9, %r9, %r5;
  add.u32 %r9, %r9, %r6;
  add.u32 %r9, %r9, %r7;
  add.u32 %r9, %r9, %r8;
  add.s64 %rd1, %rd1, %rd2;
  bra NEXT;
DONE:
  setp.ne.u32 %p2, %r9, 0x5eed1234;
  @%p2 bra END;
  st.global.u32 [%rd8], %r9;
END:
  ret;
}
`;

/** c[i] = a[i] + b[i] over three equal parts of the buffer, floats; both loads are in flight before the store. */
const VEC_ADD = `
.visible .entry vecAdd(.param .u64 a, .param .u64 b, .param .u64 c, .param .u64 elements)
{
  .reg .pred %p<2>;
  .reg .b32 %r<6>;
  .reg .f32 %f<4>;
  .reg .b64 %rd<12>;
${GRID}
  ld.param.u64 %rd4, [a];
  ld.param.u64 %rd5, [b];
  ld.param.u64 %rd6, [c];
  ld.param.u64 %rd7, [elements];
NEXT:
  setp.ge.u64 %p1, %rd1, %rd7;
  @%p1 bra DONE;
  shl.b64 %rd8, %rd1, 2;
  add.s64 %rd9, %rd4, %rd8;
  add.s64 %rd10, %rd5, %rd8;
  add.s64 %rd11, %rd6, %rd8;
  ld.global.f32 %f1, [%rd9];
  ld.global.f32 %f2, [%rd10];
  add.f32 %f3, %f1, %f2;
  st.global.f32 [%rd11], %f3;
  add.s64 %rd1, %rd1, %rd2;
  bra NEXT;
DONE:
  ret;
}
`;

/** Each thread loads perThread words at xorshift64 places, seeded by its index. */
const RANDOM_READ = `
.visible .entry randomRead(.param .u64 base, .param .u64 elements, .param .u32 perThread, .param .u64 out)
{
  .reg .pred %p<3>;
  .reg .b32 %r<10>;
  .reg .b64 %rd<14>;
${GRID}
  ld.param.u64 %rd4, [base];
  ld.param.u64 %rd5, [elements];
  ld.param.u32 %r5, [perThread];
  ld.param.u64 %rd6, [out];
  mul.lo.s64 %rd7, %rd1, 0x9E3779B97F4A7C15;
  add.s64 %rd7, %rd7, 1;
  mov.u32 %r6, 0;
  mov.u32 %r8, 0;
NEXT:
  setp.ge.u32 %p1, %r6, %r5;
  @%p1 bra DONE;
  shl.b64 %rd8, %rd7, 13;
  xor.b64 %rd7, %rd7, %rd8;
  shr.u64 %rd8, %rd7, 7;
  xor.b64 %rd7, %rd7, %rd8;
  shl.b64 %rd8, %rd7, 17;
  xor.b64 %rd7, %rd7, %rd8;
  rem.u64 %rd9, %rd7, %rd5;
  shl.b64 %rd10, %rd9, 2;
  add.s64 %rd11, %rd4, %rd10;
  ld.global.u32 %r7, [%rd11];
  add.u32 %r8, %r8, %r7;
  add.u32 %r6, %r6, 1;
  bra NEXT;
DONE:
  setp.ne.u32 %p2, %r8, 0x5eed1234;
  @%p2 bra END;
  st.global.u32 [%rd6], %r8;
END:
  ret;
}
`;

/**
 * Every thread of the grid reads the same pages in the same order: as many faults for a page as the GPU has clients.
 * The way to make a driver report faults at its highest rate.
 */
const SWEEP = `
.visible .entry sweep(.param .u64 base, .param .u32 pages, .param .u32 stride, .param .u64 out)
{
  .reg .pred %p<3>;
  .reg .b32 %r<14>;
  .reg .b64 %rd<10>;
${GRID}
  ld.param.u64 %rd4, [base];
  ld.param.u32 %r5, [pages];
  ld.param.u32 %r6, [stride];
  ld.param.u64 %rd5, [out];
  and.b32 %r7, %r3, 1023;
  mul.wide.u32 %rd6, %r7, 4;
  add.s64 %rd4, %rd4, %rd6;
  mov.u32 %r8, 0;
  mov.u32 %r9, 0;
NEXT:
  setp.ge.u32 %p1, %r8, %r5;
  @%p1 bra DONE;
  mul.wide.u32 %rd7, %r8, 4096;
  add.s64 %rd8, %rd4, %rd7;
  ld.volatile.global.u32 %r10, [%rd8];
  add.u32 %r9, %r9, %r10;
  add.u32 %r8, %r8, %r6;
  bra NEXT;
DONE:
  setp.ne.u32 %p2, %r9, 0x5eed1234;
  @%p2 bra END;
  st.global.u32 [%rd5], %r9;
END:
  ret;
}
`;

/** The text of all kernels. */
export const KERNELS_PTX: string = HEAD + TOUCH + POUND + STREAM_READ + VEC_ADD + RANDOM_READ + SWEEP;
export const KERNEL_NAMES = ['touch', 'pound', 'streamRead', 'vecAdd', 'randomRead', 'sweep'] as const;
export type KernelName = (typeof KERNEL_NAMES)[number];
