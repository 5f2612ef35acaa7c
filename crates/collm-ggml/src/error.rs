use collm_model::gguf::TensorType;

use crate::Threads;

/// Why an engine could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No such device.
    #[error("there is no device {name:?}; this machine has {present:?}")]
    NoDevice {
        /// The device asked for.
        name: String,
        /// Devices that ggml finds.
        present: Vec<String>,
    },
    /// The device is listed but cannot be used.
    #[error("the device {0:?} cannot be opened; the log says why")]
    DeviceBroken(String),
    /// Impossible threads.
    #[error("cannot run on {0:?}: there must be 1 to 512 threads, bound to cores below 512 or to none")]
    Threads(Threads),
    /// The device has no kernel for a weight.
    #[error("the device cannot multiply with {tensor:?} of type {ty}; requantise the model, for example to q8_0")]
    Unsupported {
        /// The weight.
        tensor: String,
        /// Its type.
        ty: TensorType,
    },
    /// The device has no kernel for a step.
    #[error("the device cannot compute {0}; use the processor")]
    Operation(String),
    /// Out of memory.
    #[error("no memory for {0} bytes; use fewer slots, a shorter context or a smaller model")]
    Memory(usize),
    /// Impossible options.
    #[error("impossible options: {0}")]
    Options(String),
}
