/**
 * NV_STATUS values met by the UVM driver (nvstatuscodes.h, driver 580.105.08): modelled values, never exceptions.
 */
export const NV_OK = 0;
export const NV_ERR_BUSY_RETRY = 0x3;
export const NV_ERR_ECC_ERROR = 0xb;
export const NV_ERR_ILLEGAL_ACTION = 0x16;
export const NV_ERR_IN_USE = 0x17;
export const NV_ERR_INVALID_ACCESS_TYPE = 0x1d;
export const NV_ERR_INVALID_ADDRESS = 0x1e;
export const NV_ERR_INVALID_ARGUMENT = 0x1f;
export const NV_ERR_INVALID_CHANNEL = 0x21;
export const NV_ERR_INVALID_DEVICE = 0x26;
export const NV_ERR_INVALID_OPERATION = 0x38;
export const NV_ERR_INVALID_STATE = 0x40;
export const NV_ERR_MORE_PROCESSING_REQUIRED = 0x4d;
export const NV_ERR_NO_MEMORY = 0x51;
export const NV_ERR_NOT_SUPPORTED = 0x56;
export const NV_ERR_OBJECT_NOT_FOUND = 0x57;
export const NV_ERR_OUT_OF_RANGE = 0x5b;
export const NV_ERR_PAGE_TABLE_NOT_AVAIL = 0x5d;
export const NV_ERR_RC_ERROR = 0x60;
export const NV_ERR_TIMEOUT = 0x65;
export const NV_ERR_UVM_ADDRESS_IN_USE = 0x68;
export const NV_ERR_NO_INTR_PENDING = 0x50;
export const NV_WARN_MORE_PROCESSING_REQUIRED = 0x10005;
export const NV_WARN_NOTHING_TO_DO = 0x10006;
