//! Weights on their device: mapped in place where no faster layout exists, repacked copies where one does.
//!
//! A repacked copy would double the resident memory, so the pages of the original are given back after each copy; they are
//! read again from the file only if somebody asks for them.

use std::sync::Arc;

use collm_model::ModelFile;
use collm_model::gguf::{TensorType, TensorView};
use llama_cpp_sys_2 as sys;

use crate::LoadError;
use crate::device::{Device, Layout, MAPPED_ALIGNMENT};
use crate::ggml::{Buffer, Context, Tensor};

/// The loaded weights. Tensors handed out by [`Loader`] live as long as this.
#[derive(Debug)]
pub(crate) struct Weights {
    _buffers: Vec<Buffer>,
    _context: Context,
    // Last: buffers may refer to its pages.
    _file: Arc<ModelFile>,
}

/// Matrices that are applied to the same input, each with an optional bias.
#[derive(Debug, Clone)]
pub(crate) enum Projection {
    /// As one matrix whose output holds all of theirs, one after the other: fewer steps, each with more work to share.
    Joined(Affine),
    /// One by one.
    Apart(Vec<Affine>),
}

/// A matrix and what is added after it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Affine {
    pub(crate) weight: Tensor,
    pub(crate) bias: Option<Tensor>,
}

/// A tensor to be filled from one or several places of the file.
struct PlannedCopy<'a> {
    tensor: Tensor,
    layout: Layout,
    sources: Vec<&'a [u8]>,
}

/// Loads tensors of one file to one device. What is mapped is usable at once, what is copied after [`Loader::finish`].
pub(crate) struct Loader<'a> {
    device: &'a Device,
    file: &'a Arc<ModelFile>,
    context: Context,
    copies: Vec<PlannedCopy<'a>>,
    /// The whole file in place, if the device can read it there.
    mapped: Option<Buffer>,
}

impl<'a> Loader<'a> {
    pub(crate) fn new(device: &'a Device, file: &'a Arc<ModelFile>) -> Self {
        // SAFETY: `Weights` keeps the file as long as the buffer, and the file's memory is never written to.
        let mapped = unsafe { device.map(file.gguf().bytes()) };
        // Beyond the file's own: rotation factors, and the LM head once more for each exit's shortlist.
        let tensors = file.gguf().tensors().len() + 4;
        Self { device, file, context: Context::new(tensors, 0), copies: Vec::new(), mapped }
    }

    /// Makes the copies. Those of one layout share memory, so that the system can use large pages for it.
    pub(crate) fn finish(self) -> Result<Weights, LoadError> {
        let mut buffers = Vec::new();
        let mut sorted: Vec<&PlannedCopy<'_>> = self.copies.iter().collect();
        sorted.sort_by_key(|copy| copy.layout.raw().addr());
        for copies in sorted.chunk_by(|a, b| a.layout == b.layout) {
            fill_all(self.device, copies, self.file.gguf().is_mapped(), &mut buffers)?;
        }
        buffers.extend(self.mapped);
        Ok(Weights { _buffers: buffers, _context: self.context, _file: Arc::clone(self.file) })
    }

    /// A norm's gain, a bias or a table of factors.
    pub(crate) fn vector(&mut self, view: &TensorView<'a>) -> Result<Tensor, LoadError> {
        let tensor = self.context.tensor_1d(type_id(view.ty), length(view.dims[0]));
        self.place(tensor, view)
    }

    /// A matrix to multiply with, in the device's fastest layout for it.
    pub(crate) fn matrix(&mut self, view: &TensorView<'a>) -> Result<Tensor, LoadError> {
        let layout = self.layout_of(view)?;
        if layout == self.device.own_layout() {
            return self.table(view);
        }
        let tensor = self.context.tensor_2d(type_id(view.ty), length(view.dims[0]), length(view.dims[1]));
        self.copies.push(PlannedCopy { tensor, layout, sources: vec![view.data] });
        Ok(tensor)
    }

    /// A matrix to take rows from, in the layout of the file.
    pub(crate) fn table(&mut self, view: &TensorView<'a>) -> Result<Tensor, LoadError> {
        let tensor = self.context.tensor_2d(type_id(view.ty), length(view.dims[0]), length(view.dims[1]));
        self.place(tensor, view)
    }

    /// Matrices of the same input, joined if they are copied anyway and one layout fits all.
    pub(crate) fn projection(
        &mut self,
        parts: &[(TensorView<'a>, Option<TensorView<'a>>)],
    ) -> Result<Projection, LoadError> {
        let (first, first_bias) = &parts[0];
        let layout = self.layout_of(first)?;
        let alike = parts.iter().all(|(view, bias)| view.ty == first.ty && bias.is_some() == first_bias.is_some());
        let rows = parts.iter().map(|(view, _)| length(view.dims[1])).sum();
        let fits = self.device.matrix_layout(type_id(first.ty), length(first.dims[0]), rows) == Some(layout);
        if alike && fits && layout != self.device.own_layout() {
            return Ok(Projection::Joined(self.join(parts, layout, rows)));
        }
        parts.iter().map(|part| self.affine(part)).collect::<Result<_, _>>().map(Projection::Apart)
    }

    /// A matrix with its bias, if there is one.
    pub(crate) fn affine(
        &mut self,
        (view, bias): &(TensorView<'a>, Option<TensorView<'a>>),
    ) -> Result<Affine, LoadError> {
        let bias = bias.as_ref().map(|bias| self.vector(bias)).transpose()?;
        Ok(Affine { weight: self.matrix(view)?, bias })
    }

    fn join(&mut self, parts: &[(TensorView<'a>, Option<TensorView<'a>>)], layout: Layout, rows: usize) -> Affine {
        let first = &parts[0].0;
        let weight = self.context.tensor_2d(type_id(first.ty), length(first.dims[0]), rows);
        self.copies.push(PlannedCopy {
            tensor: weight,
            layout,
            sources: parts.iter().map(|(view, _)| view.data).collect(),
        });
        let biases: Vec<&[u8]> = parts.iter().filter_map(|(_, bias)| bias.as_ref()).map(|bias| bias.data).collect();
        if biases.is_empty() {
            return Affine { weight, bias: None };
        }
        let bias = self.context.tensor_1d(sys::GGML_TYPE_F32, rows);
        self.copies.push(PlannedCopy { tensor: bias, layout: self.device.own_layout(), sources: biases });
        Affine { weight, bias: Some(bias) }
    }

    fn layout_of(&self, view: &TensorView<'_>) -> Result<Layout, LoadError> {
        self.device
            .matrix_layout(type_id(view.ty), length(view.dims[0]), length(view.dims[1]))
            .ok_or_else(|| unsupported(view))
    }

    /// Uses the mapped bytes in place if that is possible, else copies them into the device's own memory.
    fn place(&mut self, tensor: Tensor, view: &TensorView<'a>) -> Result<Tensor, LoadError> {
        let Some(mapped) = self.mapped.as_ref().filter(|_| view.data.as_ptr().addr().is_multiple_of(MAPPED_ALIGNMENT))
        else {
            self.copies.push(PlannedCopy { tensor, layout: self.device.own_layout(), sources: vec![view.data] });
            return Ok(tensor);
        };
        assert_eq!(tensor.bytes(), view.data.len(), "checked when the file was opened");
        // SAFETY: the bytes are inside the mapped buffer, which is all of the file, and as many as the tensor needs.
        let status =
            unsafe { sys::ggml_backend_tensor_alloc(mapped.raw(), tensor.raw(), view.data.as_ptr().cast_mut().cast()) };
        if status == sys::GGML_STATUS_SUCCESS { Ok(tensor) } else { Err(LoadError::Memory(view.data.len())) }
    }
}

fn unsupported(view: &TensorView<'_>) -> LoadError {
    LoadError::Unsupported { tensor: view.name.to_owned(), ty: view.ty }
}

/// Makes copies of one layout, in as few buffers as the device allows.
fn fill_all(
    device: &Device,
    copies: &[&PlannedCopy<'_>],
    is_mapped: bool,
    buffers: &mut Vec<Buffer>,
) -> Result<(), LoadError> {
    let layout = copies[0].layout;
    let mut rest = copies;
    while !rest.is_empty() {
        let (offsets, bytes) = offsets(layout, rest);
        let buffer = layout.allocate(bytes).ok_or(LoadError::Memory(bytes))?.holds_weights();
        if device.is_processor() {
            buffer.prefer_large_pages(bytes);
        }
        for (copy, offset) in rest.iter().zip(&offsets) {
            fill(copy, &buffer, *offset)?;
            if is_mapped {
                copy.sources.iter().for_each(|source| give_back(source));
            }
        }
        rest = &rest[offsets.len()..];
        buffers.push(buffer);
    }
    Ok(())
}

/// Where the first copies go in one buffer, as many as fit, and the bytes they take.
fn offsets(layout: Layout, copies: &[&PlannedCopy<'_>]) -> (Vec<usize>, usize) {
    let (mut offsets, mut end) = (Vec::new(), 0_usize);
    for copy in copies {
        let start = end.next_multiple_of(layout.alignment());
        let next = start + layout.bytes_of(copy.tensor);
        if next > layout.bytes_max() && !offsets.is_empty() {
            break;
        }
        offsets.push(start);
        end = next;
    }
    (offsets, end)
}

/// Copies the sources, repacking them if the layout does.
fn fill(copy: &PlannedCopy<'_>, buffer: &Buffer, offset: usize) -> Result<(), LoadError> {
    let joined;
    let data = match copy.sources.as_slice() {
        [single] => *single,
        several => {
            joined = several.concat();
            &joined
        }
    };
    assert_eq!(copy.tensor.bytes(), data.len(), "checked when the file was opened");
    // SAFETY: the buffer was sized for the tensor at this offset, and is kept with it.
    let status = unsafe {
        let base = sys::ggml_backend_buffer_get_base(buffer.raw()).cast::<u8>();
        sys::ggml_backend_tensor_alloc(buffer.raw(), copy.tensor.raw(), base.add(offset).cast())
    };
    if status != sys::GGML_STATUS_SUCCESS {
        return Err(LoadError::Memory(data.len()));
    }
    copy.tensor.write(data);
    Ok(())
}

/// ggml numbers its types as GGUF does.
pub(crate) fn type_id(ty: TensorType) -> sys::ggml_type {
    ty.id()
}

fn length(dimension: u64) -> usize {
    usize::try_from(dimension).expect("the tensor is in memory")
}

/// Lets the operating system drop the pages that lie wholly inside `bytes`, which are of a mapped file. Advice: failing changes nothing but the
/// resident memory.
#[cfg(target_os = "linux")]
fn give_back(bytes: &[u8]) {
    let page = rustix::param::page_size();
    let start = bytes.as_ptr().addr().next_multiple_of(page);
    let end = (bytes.as_ptr().addr() + bytes.len()) / page * page;
    if start >= end {
        return;
    }
    let first = bytes.as_ptr().with_addr(start).cast_mut().cast();
    // SAFETY: whole pages of a mapped file, by the only caller; nobody writes to them, so
    // what is dropped is read again from the file with the same content.
    if let Err(error) = unsafe { rustix::mm::madvise(first, end - start, rustix::mm::Advice::LinuxDontNeed) } {
        tracing::debug!(%error, "the pages of repacked weights stay resident");
    }
}

/// Only Linux promises that dropped pages of a file come back with the same content.
#[cfg(not(target_os = "linux"))]
fn give_back(_: &[u8]) {}
