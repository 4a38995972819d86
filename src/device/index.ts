/**
 * The public face of the device room: what a program says to the driver, byte for byte, the contract of a device, and
 * the device over the model. It runs in a browser.
 */
export * from './abi/copy_abi.ts';
export * from './abi/event_columns.ts';
export * from './abi/event_queue.ts';
export * from './abi/event_words.ts';
export * from './abi/events.ts';
export * from './abi/ioctls.ts';
export * from './abi/layout.ts';
export * from './abi/status.ts';
export * from './abi/test_ioctls.ts';
export * from './attach.ts';
export * from './device.ts';
export * from './event_source.ts';
export * from './model/model_device.ts';
export * from './model/model_program.ts';
export * from './process_memory.ts';
export * from './process_memory.ts';
export * from './program.ts';
