//! The engine: one model file, loaded, with its slots.

use std::ops::Range;
use std::sync::Arc;

use collm_engine::batch::Span;
use collm_engine::{
    BLOCK_ROWS, Engine, EngineError, FIRST_BLOCK, Head, Input, Interrupt, Row, Scope, Scores, Shape, SlotId, Stack,
    TokenId, TokenTexts,
};
use collm_model::gguf::TensorView;
use collm_model::{ExitNumber, Holding, LayerName, ModelFile};

use crate::attention::{SpanAim, SpanRows};
use crate::device::Device;
use crate::graph::{CallInput, Graphs, StackView};
use crate::head::{HeadRunner, HeadWeights};
use crate::kv::{KvArena, KvSizes};
use crate::layers::{LayerShape, LayerWeights};
use crate::quantize::dequantize;
use crate::weights::{Loader, Weights};
use crate::{LoadError, Threads, Vocabulary};

/// Rows computed in one graph; larger calls are divided.
const GRAPH_ROWS_MAX: usize = 512;

/// Sizes and places of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadOptions {
    /// For a whole model, the layer where [`Stack::Lower`] ends and [`Stack::Upper`] begins. Parts know theirs.
    pub upload_at: Option<u32>,
    /// For a whole model, the layers of a [`Stack::Tail`] with the model's own weights; `None` for no such stack. Parts know theirs.
    pub tail: Option<Vec<u32>>,
    /// Key-value slots.
    pub slots: usize,
    /// Positions a slot holds.
    pub context: usize,
    /// Rows that one call may carry.
    pub batch_rows_max: usize,
    /// Who computes, on the processor.
    pub threads: Threads,
    /// A name from [`crate::devices`], or the processor.
    pub device: Option<String>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            upload_at: None,
            tail: None,
            slots: 1,
            context: 2048,
            batch_rows_max: 512,
            threads: Threads::unbound(1),
            device: None,
        }
    }
}

/// An engine on ggml.
#[derive(Debug)]
pub struct GgmlEngine {
    shape: Shape,
    layer_shape: LayerShape,
    stacks: [Vec<LayerWeights>; 3],
    heads: Vec<(Head, HeadRunner)>,
    graphs: Graphs,
    memory: KvArena,
    file: Arc<ModelFile>,
    /// Loaded when an answer must have a form.
    texts: Option<Arc<Vocabulary>>,
    // The last two: everything above lies in their memory or computes with them, and fields drop in this order.
    _weights: Weights,
    device: Device,
}

// SAFETY: the raw pointers inside refer to objects that only this engine uses, and ggml ties none of them to a thread.
unsafe impl Send for GgmlEngine {}

impl GgmlEngine {
    /// Loads what `file` holds.
    ///
    /// # Errors
    /// When device, memory or options do not allow it; see [`LoadError`].
    pub fn load(file: &Arc<ModelFile>, options: &LoadOptions) -> Result<Self, LoadError> {
        let h = file.hyperparameters();
        check_sizes(options)?;
        let plan = StackPlan::of(file, options)?;
        let device = Device::open(options.device.as_deref(), &options.threads)?;
        let mut loader = Loader::new(&device, file);
        let stacks = plan.load(&mut loader, file)?;
        let rope_factors = file.tensor("rope_freqs.weight").map(|view| loader.vector(&view)).transpose()?;
        let heads = load_heads(&mut loader, file)?;
        let weights = loader.finish()?;
        let sizes = KvSizes {
            slots: options.slots,
            context: options.context,
            key_width: h.key_width() as usize,
            value_width: h.value_width() as usize,
            layers: [stacks[0].len(), stacks[1].len(), stacks[2].len()],
        };
        let memory = KvArena::new(&device, sizes)?;
        let layer_shape = LayerShape { hyperparameters: h.clone(), rope_factors };
        for stack in plan.stacks() {
            let layers = &stacks[stack as usize];
            Graphs::check(&device, StackView { stack, shape: &layer_shape, layers, memory: &memory })?;
        }
        let (width, vocabulary) = (h.width as usize, h.vocabulary as usize);
        for (_, weights) in &heads {
            HeadRunner::check(&device, weights, width)?;
        }
        let runner = |(head, weights)| (head, HeadRunner::new(&device, weights, width));
        Ok(Self {
            shape: Shape {
                width,
                vocabulary,
                slots: options.slots,
                context: options.context,
                batch_rows_max: options.batch_rows_max,
                stacks: plan.stacks(),
                heads: heads.iter().map(|(head, _)| *head).collect(),
            },
            layer_shape,
            stacks,
            heads: heads.into_iter().map(runner).collect(),
            graphs: Graphs::new(&device),
            memory,
            file: Arc::clone(file),
            texts: None,
            _weights: weights,
            device,
        })
    }

    /// Has the [`Stack::Tail`] of a whole model run other layers, no more than it was loaded with, and empties all slots. To try
    /// tails without a file for each.
    ///
    /// # Errors
    /// [`LoadError::Options`] if there are more layers than that, or one that the model does not have.
    pub fn change_tail(&mut self, layers: &[u32]) -> Result<(), LoadError> {
        let room = self.memory.layers(Stack::Tail).len();
        let [lower, tail, upper] = &mut self.stacks;
        if !matches!(self.file.holding(), Holding::Whole) || layers.len() > room {
            return Err(LoadError::Options(format!(
                "a tail of {} layers where there is room for {room}",
                layers.len()
            )));
        }
        *tail = own_layers(layers, lower, upper)?;
        self.graphs.forget(Stack::Tail);
        (0..self.shape.slots).for_each(|slot| self.memory.truncate(SlotId(slot as u32), 0));
        Ok(())
    }

    /// One graph's worth of rows: adjacent rows of the call, cut into spans.
    fn run_graph(
        &mut self,
        stack: Stack,
        spans: &[Span],
        input: &[f32],
        hidden: &mut Vec<f32>,
    ) -> Result<(), EngineError> {
        let first_row = spans[0].first_row;
        let shape: Vec<SpanRows> =
            spans.iter().map(|span| SpanRows { first: span.first_row - first_row, count: span.rows }).collect();
        let call = CallRows::of(spans, &self.memory);
        let view =
            StackView { stack, shape: &self.layer_shape, layers: &self.stacks[stack as usize], memory: &self.memory };
        let input =
            CallInput { hidden: input, positions: &call.positions, memory_rows: &call.memory_rows, aims: &call.aims };
        self.graphs.run(&mut self.device, view, &shape, input, hidden)?;
        self.grow(stack, spans);
        Ok(())
    }

    fn grow(&mut self, stack: Stack, spans: &[Span]) {
        for span in spans {
            self.memory.grow(stack, span.slot, span.rows);
        }
    }

    /// The embeddings of tokens, `[width, tokens]`. Read from the file, wherever the layers are: a few rows are not worth
    /// a place on the device.
    fn embed(&self, tokens: &[TokenId]) -> Result<Vec<f32>, EngineError> {
        let table = self.file.tensor("token_embd.weight").expect("files with a lower stack hold it");
        let mut values = Vec::with_capacity(tokens.len() * self.shape.width);
        for token in tokens {
            dequantize(table.ty, embedding_bytes(&table, *token), self.shape.width, &mut values)
                .ok_or_else(|| EngineError::Device(format!("cannot read embeddings of type {}", table.ty)))?;
        }
        let scale = self.layer_shape.hyperparameters.embedding_scale;
        if scale != 1.0 {
            values.iter_mut().for_each(|value| *value *= scale);
        }
        Ok(values)
    }
}

impl Engine for GgmlEngine {
    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn run(&mut self, stack: Stack, rows: &[Row], input: Input<'_>, hidden: &mut Vec<f32>) -> Result<(), EngineError> {
        let spans = self.shape.parse_run(stack, rows, input, |slot| self.memory.filled(stack, slot))?;
        hidden.clear();
        let embedded;
        let states = match input {
            Input::Tokens(tokens) => {
                embedded = self.embed(tokens)?;
                &embedded
            }
            Input::Hidden(states) => states,
        };
        if self.stacks[stack as usize].is_empty() {
            // A tail without layers: exit 2 reads what is uploaded.
            hidden.extend_from_slice(states);
            self.grow(stack, &spans);
            return Ok(());
        }
        for piece in pieces(&spans) {
            let rows = piece_rows(&piece);
            let states = &states[rows.start * self.shape.width..rows.end * self.shape.width];
            self.run_graph(stack, &piece, states, hidden)?;
        }
        Ok(())
    }

    fn score(&mut self, head: Head, scope: Scope, hidden: &[f32], scores: &mut Scores) -> Result<(), EngineError> {
        self.shape.parse_score(head, scope, hidden, self.shortlist(head))?;
        scores.clear();
        let runner = self.heads.iter_mut().find(|(name, _)| *name == head);
        let (_, runner) = runner.expect("the shape lists the heads");
        runner.score(&mut self.device, scope, hidden, scores)
    }

    fn shortlist(&self, head: Head) -> Option<usize> {
        let runner = self.heads.iter().find(|(name, _)| *name == head);
        runner.and_then(|(_, runner)| runner.shortlist())
    }

    fn token_texts(&mut self) -> Result<Arc<dyn TokenTexts>, EngineError> {
        if self.texts.is_none() {
            let vocabulary = Vocabulary::load(&self.file).map_err(|error| EngineError::NoTexts(error.to_string()))?;
            self.texts = Some(Arc::new(vocabulary));
        }
        Ok(self.texts.clone().expect("loaded above"))
    }

    fn heed(&mut self, interrupt: Arc<Interrupt>) {
        self.device.heed(interrupt);
    }

    fn filled(&self, stack: Stack, slot: SlotId) -> usize {
        self.memory.filled(stack, slot)
    }

    fn truncate(&mut self, slot: SlotId, length: usize) {
        self.memory.truncate(slot, length);
    }
}

/// Which layers make up which stack.
struct StackPlan {
    lower: Range<u32>,
    /// Layers of the source, in the order they run; `None` where there is no tail, which is not a tail without layers.
    tail: Option<Vec<u32>>,
    upper: Range<u32>,
}

impl StackPlan {
    fn of(file: &ModelFile, options: &LoadOptions) -> Result<Self, LoadError> {
        let layers = file.hyperparameters().layers;
        let none = layers..layers;
        Ok(match file.holding() {
            Holding::Whole => {
                let at = options.upload_at.unwrap_or(layers - 1);
                if !(1..layers).contains(&at) {
                    return Err(LoadError::Options(format!(
                        "cannot divide after layer {at}, the model has {layers} layers"
                    )));
                }
                Self { lower: 0..at, tail: options.tail.clone(), upper: at..layers }
            }
            Holding::Edge(part) => {
                Self { lower: 0..part.identity.upload_at, tail: Some(part.tail.clone()), upper: none }
            }
            Holding::Cloud(part) => Self { lower: 0..0, tail: None, upper: part.identity.upload_at..layers },
        })
    }

    fn load<'a>(&self, loader: &mut Loader<'a>, file: &'a ModelFile) -> Result<[Vec<LayerWeights>; 3], LoadError> {
        let mut block = |layer: u32| LayerWeights::load(loader, file, LayerName::Block(layer), layer);
        let lower: Vec<_> = self.lower.clone().map(&mut block).collect::<Result<_, _>>()?;
        let upper: Vec<_> = self.upper.clone().map(&mut block).collect::<Result<_, _>>()?;
        if let (Holding::Whole, Some(tail)) = (file.holding(), &self.tail) {
            let tail = own_layers(tail, &lower, &upper)?;
            return Ok([lower, tail, upper]);
        }
        let tail = (0..).zip(self.tail.iter().flatten());
        let tail = tail.map(|(index, source)| LayerWeights::load(loader, file, LayerName::Tail(index), *source));
        Ok([lower, tail.collect::<Result<_, _>>()?, upper])
    }

    fn stacks(&self) -> Vec<Stack> {
        let present = [
            (Stack::Lower, !self.lower.is_empty()),
            (Stack::Tail, self.tail.is_some()),
            (Stack::Upper, !self.upper.is_empty()),
        ];
        present.into_iter().filter(|(_, present)| *present).map(|(stack, _)| stack).collect()
    }
}

/// Layers of a whole model once more: the same weights.
fn own_layers(layers: &[u32], lower: &[LayerWeights], upper: &[LayerWeights]) -> Result<Vec<LayerWeights>, LoadError> {
    let own = |layer: &u32| lower.iter().chain(upper).nth(*layer as usize).cloned();
    let found: Option<Vec<LayerWeights>> = layers.iter().map(own).collect();
    found.ok_or_else(|| {
        let count = lower.len() + upper.len();
        LoadError::Options(format!("a tail of layers {layers:?}, the model has {count} layers"))
    })
}

/// A whole model can be scored at its end and, as if it had an exit, after its lower stack.
fn load_heads<'a>(loader: &mut Loader<'a>, file: &'a ModelFile) -> Result<Vec<(Head, HeadWeights)>, LoadError> {
    let own = HeadWeights::load(loader, file)?;
    Ok(match file.holding() {
        Holding::Whole => vec![(Head::Exit1, own.clone()), (Head::Final, own)],
        Holding::Cloud(_) => vec![(Head::Final, own)],
        Holding::Edge(_) => vec![
            (Head::Exit1, own.load_exit(loader, file, ExitNumber::One)?),
            (Head::Exit2, own.load_exit(loader, file, ExitNumber::Two)?),
        ],
    })
}

fn check_sizes(options: &LoadOptions) -> Result<(), LoadError> {
    let positions = options.slots.checked_mul(options.context);
    let fits = |count: usize| (1..=i32::MAX as usize).contains(&count);
    if !positions.is_some_and(fits) || !fits(options.batch_rows_max) {
        return Err(LoadError::Options(format!(
            "{} slots of {} positions and calls of {} rows; each must be at least 1",
            options.slots, options.context, options.batch_rows_max
        )));
    }
    Ok(())
}

/// Positions and memory of the rows of a call.
struct CallRows {
    positions: Vec<i32>,
    memory_rows: Vec<i64>,
    aims: Vec<SpanAim>,
}

impl CallRows {
    fn of(spans: &[Span], memory: &KvArena) -> Self {
        let mut rows = Self { positions: Vec::new(), memory_rows: Vec::new(), aims: Vec::new() };
        for span in spans {
            let (base, start) = (memory.base(span.slot), span.start.index());
            rows.aims.push(SpanAim { base, start });
            let positions = start..start + span.rows;
            rows.positions.extend(positions.clone().map(|position| position as i32));
            rows.memory_rows.extend(positions.map(|position| (base + position) as i64));
        }
        rows
    }
}

fn embedding_bytes<'a>(table: &TensorView<'a>, token: TokenId) -> &'a [u8] {
    let row = table.data.len() / table.dims[1] as usize;
    &table.data[token.0 as usize * row..][..row]
}

/// Divides spans into graphs of at most [`GRAPH_ROWS_MAX`] rows, in order, and at the borders of blocks that do not come whole.
/// Spans of one slot in one graph see those before them, since a layer's keys are all written before any are read.
///
/// Matrices give a row the same bits in every batch, whatever the layout of the weights (measured for AMX, `CPU_REPACK` and plain
/// ones). Attention does not: ggml computes 64 rows of one slot and more on tiles, with another order of additions. Cut at blocks, and
/// smaller before the first, which rows come on tiles depends on positions alone, and neighbours in a batch change nothing.
fn pieces(spans: &[Span]) -> Vec<Vec<Span>> {
    let mut pieces: Vec<Vec<Span>> = Vec::new();
    let mut room = 0;
    for span in spans {
        let mut rest = *span;
        while rest.rows > 0 {
            let fitting = rows_together(rest, room);
            if fitting == 0 {
                pieces.push(Vec::new());
                room = GRAPH_ROWS_MAX;
                continue;
            }
            pieces.last_mut().expect("only an existing piece has room").push(Span { rows: fitting, ..rest });
            room -= fitting;
            rest.rows -= fitting;
            rest.first_row += fitting;
            rest.start.0 += fitting as u32;
        }
    }
    pieces
}

/// How many of the span's next rows go into one attention call with `room`: whole blocks, or what there is of one. Before the first
/// block too few for tiles.
fn rows_together(span: Span, room: usize) -> usize {
    let start = span.start.index();
    let (into_block, rows) = (start % BLOCK_ROWS, span.rows.min(room));
    if start < FIRST_BLOCK {
        rows.min(BLOCK_ROWS / 2 - start % (BLOCK_ROWS / 2))
    } else if into_block == 0 && span.rows >= BLOCK_ROWS {
        rows / BLOCK_ROWS * BLOCK_ROWS
    } else {
        rows.min(BLOCK_ROWS - into_block)
    }
}

fn piece_rows(piece: &[Span]) -> Range<usize> {
    let last = piece[piece.len() - 1];
    piece[0].first_row..last.first_row + last.rows
}
