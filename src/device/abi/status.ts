/**
 * NV_STATUS as programs meet it: in `rmStatus` of an ioctl's parameters, or as the errno of open and mmap. Names and
 * numbers are the model's table (src/model/uvm/status.ts), since the model and a real driver answer alike.
 */
import {
  NV_ERR_BUSY_RETRY,
  NV_ERR_ECC_ERROR,
  NV_ERR_GPU_UUID_NOT_FOUND,
  NV_ERR_IN_USE,
  NV_ERR_INSUFFICIENT_PERMISSIONS,
  NV_ERR_INSUFFICIENT_RESOURCES,
  NV_ERR_INVALID_ACCESS_TYPE,
  NV_ERR_INVALID_ADDRESS,
  NV_ERR_NO_MEMORY,
  NV_ERR_NOT_SUPPORTED,
  NV_ERR_OBJECT_NOT_FOUND,
  NV_ERR_OUT_OF_RANGE,
  NV_ERR_RC_ERROR,
  NV_ERR_TIMEOUT,
  NV_ERR_UVM_ADDRESS_IN_USE,
  NV_OK,
  statusName,
} from '../../model/uvm/status.ts';

export * from '../../model/uvm/status.ts';

/** errno values of Linux on x86-64 that the driver's files give. */
export const ERRNO = {
  EPERM: 1,
  ESRCH: 3,
  EIO: 5,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  EEXIST: 17,
  ENODEV: 19,
  EINVAL: 22,
  ENOSYS: 38,
  ENODATA: 61,
  EOVERFLOW: 75,
  EBADFD: 77,
  EOPNOTSUPP: 95,
  EADDRINUSE: 98,
  ETIMEDOUT: 110,
} as const;

const ERRNO_BY_STATUS: Readonly<Record<number, number>> = {
  [NV_OK]: 0,
  [NV_ERR_BUSY_RETRY]: ERRNO.EAGAIN,
  [NV_ERR_INSUFFICIENT_PERMISSIONS]: ERRNO.EPERM,
  [NV_ERR_GPU_UUID_NOT_FOUND]: ERRNO.ENODEV,
  [NV_ERR_NO_MEMORY]: ERRNO.ENOMEM,
  [NV_ERR_INSUFFICIENT_RESOURCES]: ERRNO.ENOMEM,
  [NV_ERR_INVALID_ACCESS_TYPE]: ERRNO.EACCES,
  [NV_ERR_INVALID_ADDRESS]: ERRNO.EFAULT,
  [NV_ERR_NOT_SUPPORTED]: ERRNO.ENOSYS,
  [NV_ERR_OBJECT_NOT_FOUND]: ERRNO.ENODATA,
  [NV_ERR_UVM_ADDRESS_IN_USE]: ERRNO.EADDRINUSE,
  [NV_ERR_TIMEOUT]: ERRNO.ETIMEDOUT,
  [NV_ERR_IN_USE]: ERRNO.EEXIST,
  [NV_ERR_RC_ERROR]: ERRNO.EIO,
  [NV_ERR_ECC_ERROR]: ERRNO.EIO,
  [NV_ERR_OUT_OF_RANGE]: ERRNO.EOVERFLOW,
};

/** The errno that open and mmap of the device make of a status (nv_status_to_errno); EINVAL for all the others. */
export function statusErrno(status: number): number {
  return ERRNO_BY_STATUS[status] ?? ERRNO.EINVAL;
}

/** The name of an errno, or its number where none of the driver's files gives it. */
export function errnoName(errno: number): string {
  for (const [name, value] of Object.entries(ERRNO)) if (value === errno) return name;
  return `errno ${errno}`;
}

/** A status as people read it: its name and number. */
export function statusText(status: number): string {
  const name = statusName(status);
  return name.startsWith('NV_') ? `${name} (0x${status.toString(16)})` : name;
}
