/** Device nodes of the driver. */
export const DEVICE_PATH = { uvm: '/dev/nvidia-uvm', tools: '/dev/nvidia-uvm-tools' } as const;
