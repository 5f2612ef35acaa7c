//! Key-value memory: for every layer one arena of rows in f16, `slots * context` of them, taken when an engine is loaded.
//!
//! A slot's rows are its positions in order. Only lengths are kept here; which rows are filled is the length's business.

use collm_engine::{SlotId, Stack};
use llama_cpp_sys_2 as sys;

use crate::LoadError;
use crate::device::Device;
use crate::ggml::{Buffer, Context, Tensor};

/// The memory of all stacks, and how much of each slot is filled.
#[derive(Debug)]
pub(crate) struct KvArena {
    filled: Vec<[usize; 3]>,
    context: usize,
    layers: [Vec<KvLayer>; 3],
    _buffer: Option<Buffer>,
    _descriptions: Context,
}

/// One layer's keys and values, `[width, slots * context]` each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KvLayer {
    pub(crate) keys: Tensor,
    pub(crate) values: Tensor,
}

/// What the arena is made for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KvSizes {
    pub(crate) slots: usize,
    /// Positions a slot holds.
    pub(crate) context: usize,
    pub(crate) key_width: usize,
    pub(crate) value_width: usize,
    /// Layers of each stack.
    pub(crate) layers: [usize; 3],
}

impl KvArena {
    pub(crate) fn new(device: &Device, sizes: KvSizes) -> Result<Self, LoadError> {
        let rows = sizes.slots * sizes.context;
        let count: usize = sizes.layers.iter().sum();
        let descriptions = Context::new(2 * count, 0);
        let layers = sizes.layers.map(|layers| {
            let layer = |_| KvLayer {
                keys: descriptions.tensor_2d(sys::GGML_TYPE_F16, sizes.key_width, rows),
                values: descriptions.tensor_2d(sys::GGML_TYPE_F16, sizes.value_width, rows),
            };
            (0..layers).map(layer).collect()
        });
        // SAFETY: the context holds these tensors only; null means that memory was short (or that there is nothing to place).
        let buffer = Buffer::own(unsafe {
            sys::ggml_backend_alloc_ctx_tensors_from_buft(descriptions.raw(), device.own_layout().raw())
        });
        if buffer.is_none() && count > 0 {
            return Err(LoadError::Memory(2 * count * rows * (sizes.key_width + sizes.value_width)));
        }
        let filled = vec![[0; 3]; sizes.slots];
        Ok(Self { filled, context: sizes.context, layers, _buffer: buffer, _descriptions: descriptions })
    }

    pub(crate) fn layers(&self, stack: Stack) -> &[KvLayer] {
        &self.layers[stack as usize]
    }

    /// The row of a slot's position 0 in every layer's arena.
    pub(crate) fn base(&self, slot: SlotId) -> usize {
        slot.0 as usize * self.context
    }

    /// Positions a slot holds.
    pub(crate) fn context(&self) -> usize {
        self.context
    }

    pub(crate) fn filled(&self, stack: Stack, slot: SlotId) -> usize {
        self.filled.get(slot.0 as usize).map_or(0, |lengths| lengths[stack as usize])
    }

    pub(crate) fn grow(&mut self, stack: Stack, slot: SlotId, rows: usize) {
        self.filled[slot.0 as usize][stack as usize] += rows;
    }

    pub(crate) fn truncate(&mut self, slot: SlotId, length: usize) {
        if let Some(lengths) = self.filled.get_mut(slot.0 as usize) {
            lengths.iter_mut().for_each(|filled| *filled = length.min(*filled));
        }
    }
}
