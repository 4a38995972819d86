import { expect, it } from 'vitest';
import { ERRNO, errnoName, NV_ERR_INVALID_ARGUMENT, statusErrno, statusName, statusText } from './status.ts';

/** Number, name and errno (of Linux) of the statuses that programs meet, as the driver's header and errno table say. */
const TABLE: [number, string, number][] = [
  [0x0, 'NV_OK', 0],
  [0x3, 'NV_ERR_BUSY_RETRY', 11],
  [0xb, 'NV_ERR_ECC_ERROR', 5],
  [0x12, 'NV_ERR_GPU_UUID_NOT_FOUND', 19],
  [0x16, 'NV_ERR_ILLEGAL_ACTION', 22],
  [0x17, 'NV_ERR_IN_USE', 17],
  [0x1a, 'NV_ERR_INSUFFICIENT_RESOURCES', 12],
  [0x1b, 'NV_ERR_INSUFFICIENT_PERMISSIONS', 1],
  [0x1d, 'NV_ERR_INVALID_ACCESS_TYPE', 13],
  [0x1e, 'NV_ERR_INVALID_ADDRESS', 14],
  [0x1f, 'NV_ERR_INVALID_ARGUMENT', 22],
  [0x26, 'NV_ERR_INVALID_DEVICE', 22],
  [0x38, 'NV_ERR_INVALID_OPERATION', 22],
  [0x3b, 'NV_ERR_INVALID_PARAMETER', 22],
  [0x3f, 'NV_ERR_INVALID_REQUEST', 22],
  [0x40, 'NV_ERR_INVALID_STATE', 22],
  [0x4d, 'NV_ERR_MORE_PROCESSING_REQUIRED', 22],
  [0x51, 'NV_ERR_NO_MEMORY', 12],
  [0x56, 'NV_ERR_NOT_SUPPORTED', 38],
  [0x57, 'NV_ERR_OBJECT_NOT_FOUND', 61],
  [0x5b, 'NV_ERR_OUT_OF_RANGE', 75],
  [0x5d, 'NV_ERR_PAGE_TABLE_NOT_AVAIL', 22],
  [0x60, 'NV_ERR_RC_ERROR', 5],
  [0x63, 'NV_ERR_STATE_IN_USE', 22],
  [0x65, 'NV_ERR_TIMEOUT', 110],
  [0x68, 'NV_ERR_UVM_ADDRESS_IN_USE', 98],
  [0xffff, 'NV_ERR_GENERIC', 22],
  [0x10005, 'NV_WARN_MORE_PROCESSING_REQUIRED', 22],
  [0x10006, 'NV_WARN_NOTHING_TO_DO', 22],
];

it.each(TABLE)('status 0x%x is %s with errno %i', (status, name, errno) => {
  expect(statusName(status)).toBe(name);
  expect(statusErrno(status)).toBe(errno);
});

it('statuses and errnos read as name and number', () => {
  expect(statusText(NV_ERR_INVALID_ARGUMENT)).toBe('NV_ERR_INVALID_ARGUMENT (0x1f)');
  expect(statusText(0x7777)).toBe('status 0x7777');
  expect(errnoName(ERRNO.EBADFD)).toBe('EBADFD');
  expect(errnoName(4)).toBe('errno 4');
});
