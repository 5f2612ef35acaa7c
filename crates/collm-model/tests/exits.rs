//! Fitted exits: written, read back, merged into edge parts, and refused where they make no sense.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::error::Error;
use std::path::PathBuf;

use collm_core::confidence::ConfidenceMeasure;
use collm_core::gate::{GATE_SCALARS, GateLook, GateWeights};
use collm_core::policy::Threshold;
use collm_model::exits::{ExitsDraft, ExitsError, ExitsFault, ExitsFile, FittedCut, Promise};
use collm_model::gguf::{Array, Gguf, GgufWriter, TensorType, TensorView, Value, ValueType};
use collm_model::split::{Requantize, SplitError, SplitOptions, plan};
use collm_model::synthetic::SyntheticModel;
use collm_model::{Architecture, Digest, ExitNumber, Holding, LayerName, ModelError, ModelFile};
use half::f16;
use tempfile::TempDir;

const WIDTH: usize = 64;
const RANK: usize = 2;
const RANK_OF_KEYS: usize = 32;
const QUERY: &str = "exit.2.shortlist.query.weight";
const KEY: &str = "exit.2.shortlist.key.weight";

/// A model, and drafts of exits for it.
struct Bench {
    folder: TempDir,
    source: ModelFile,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("source.gguf");
        SyntheticModel::new(Architecture::Llama).write(&path).unwrap();
        Self { source: ModelFile::open(&path).unwrap(), folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn digest(&self) -> Digest {
        Digest::of(self.source.gguf().bytes())
    }

    /// Exits after layers 2 and `[5, 3]` of which nothing has been fitted.
    fn bare(&self) -> ExitsDraft {
        let (source_sha256, tail) = (self.digest(), vec![5, 3]);
        ExitsDraft::new(FittedCut { source_sha256, upload_at: 2, tail, exit1: true, tail_type: None })
    }

    /// One of everything.
    fn full(&self) -> ExitsDraft {
        let mut draft = self.bare();
        draft
            .set_delta(
                0,
                "attn_q.weight",
                RANK,
                [(&wave(WIDTH * RANK), TensorType::F32), (&wave(RANK * 64), TensorType::F32)],
            )
            .unwrap();
        draft.set_vector(1, "ffn_norm.weight", &[0.5; WIDTH]);
        let two = ExitNumber::Two;
        draft.set_head_vector(two, "norm.weight", &[1.5; WIDTH]);
        draft.set_head_matrix(two, "map.weight", WIDTH, &wave(WIDTH * WIDTH), TensorType::F16).unwrap();
        draft.set_head_vector(two, "map.bias", &[0.1; WIDTH]);
        draft.set_head_matrix(two, "mlp.up.weight", WIDTH, &wave(WIDTH * 32), TensorType::Q8_0).unwrap();
        draft.set_head_matrix(two, "mlp.down.weight", 32, &wave(WIDTH * 32), TensorType::Q8_0).unwrap();
        let factors = [wave(WIDTH * RANK_OF_KEYS), wave(WIDTH * RANK_OF_KEYS)];
        draft.set_shortlist(two, 16, WIDTH, factors.each_ref().map(Vec::as_slice), TensorType::Q8_0).unwrap();
        let info = draft.exit_mut(two);
        info.measure = ConfidenceMeasure::Gate;
        info.threshold = Threshold::new(0.75);
        info.promise = Promise([("target".to_owned(), 0.97), ("positions".to_owned(), 1000.0)].into());
        info.gate = Some(gate());
        draft.exit_mut(ExitNumber::One).measure = ConfidenceMeasure::Margin;
        draft
    }

    fn split(&self, options: &SplitOptions<'_>) -> Result<(ModelFile, ModelFile), SplitError> {
        let (edge, cloud) = (self.path("edge.gguf"), self.path("cloud.gguf"));
        plan(&self.source, options, &mut |_| ())?.write(&edge, &cloud, Some(&Floats), &mut |_| ())?;
        Ok((ModelFile::open(&edge).unwrap(), ModelFile::open(&cloud).unwrap()))
    }

    /// What a file of these bytes is refused for, by itself or beside the model.
    fn fault(&self, bytes: Vec<u8>) -> Option<ExitsFault> {
        let checked = ExitsFile::from_bytes(bytes)
            .and_then(|file| file.check(self.source.hyperparameters(), self.digest()).map(|()| file));
        match checked {
            Ok(_) => None,
            Err(ExitsError::Unusable { fault, .. }) => Some(fault),
            Err(other) => panic!("{other}"),
        }
    }
}

fn gate() -> GateWeights {
    let (rank, hidden) = (3, 4);
    GateWeights {
        look: Some(GateLook { rank, weight: wave(rank * WIDTH) }),
        mean: vec![0.5; GATE_SCALARS],
        scale: vec![2.0; GATE_SCALARS],
        up: wave(hidden * (rank + GATE_SCALARS)),
        up_bias: wave(hidden),
        down: wave(hidden),
        down_bias: -0.25,
        calibration: vec![(-1.0, 0.1), (0.0, 0.5), (2.0, 0.5), (3.0, 1.0)],
    }
}

fn wave(count: usize) -> Vec<f32> {
    (0..count).map(|index| (index as f32 * 0.7).sin()).collect()
}

fn floats(tensor: &TensorView<'_>) -> Vec<f32> {
    assert_eq!(tensor.ty, TensorType::F32, "{}", tensor.name);
    tensor.data.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
}

/// The conversions between f32 and f16, in place of the tensor library.
struct Floats;

impl Requantize for Floats {
    fn requantize(
        &self,
        from: TensorType,
        to: TensorType,
        _: u64,
        rows: &[u8],
    ) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
        assert_eq!(from, TensorType::F32, "the model's weights and merged rows are f32");
        let values = rows.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes));
        match to {
            TensorType::F32 => Ok(rows.to_vec()),
            TensorType::F16 => Ok(values.flat_map(|value| f16::from_f32(value).to_le_bytes()).collect()),
            TensorType::Q8_0 => Ok(values.collect::<Vec<_>>().chunks_exact(32).flat_map(q8_0).collect()),
            other => panic!("{other} is not planned"),
        }
    }
}

/// A block of values whose scale is a whole number of 1/256: an f16 scale and a byte a value.
fn q8_0(values: &[f32]) -> Vec<u8> {
    let largest = values.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()));
    let scale = (largest / 127.0 * 256.0).ceil() / 256.0;
    let value = |value: &f32| (value / scale).round() as i8 as u8;
    f16::from_f32(scale).to_le_bytes().into_iter().chain(values.iter().map(value)).collect()
}

#[test]
fn a_draft_reads_back_as_it_was() {
    let bench = Bench::new();
    let draft = bench.full();
    draft.write(&bench.path("model.exits.gguf")).unwrap();
    let file = ExitsFile::open(&bench.path("model.exits.gguf")).unwrap();
    file.check(bench.source.hyperparameters(), bench.digest()).unwrap();
    assert_eq!(file.cut(), &draft.cut);
    assert_eq!(file.exit(ExitNumber::Two), Some(&*draft.clone().exit_mut(ExitNumber::Two)));
    let two = file.exit(ExitNumber::Two).unwrap();
    assert_eq!((two.promise.target(), two.promise.positions(), two.promise.bound()), (Some(0.97), Some(1000.0), None));
    assert_eq!(file.exit(ExitNumber::One).unwrap().measure, ConfidenceMeasure::Margin);
    let delta = file.delta(0, "attn_q.weight").unwrap();
    assert_eq!((delta.a.stated_dims(), delta.b.stated_dims()), (&[64, 2][..], &[2, 64][..]));
    assert_eq!(file.digest(), Digest::of(&draft.to_bytes().unwrap()));
}

#[test]
fn changing_a_file_keeps_the_rest_of_it() {
    let bench = Bench::new();
    let bytes = bench.full().to_bytes().unwrap();
    let mut draft = ExitsDraft::of(&ExitsFile::from_bytes(bytes.clone()).unwrap());
    assert_eq!(draft.to_bytes().unwrap(), bytes);
    draft.exit_mut(ExitNumber::Two).threshold = Threshold::new(0.5);
    draft.exit_mut(ExitNumber::Two).gate = None;
    draft.exit_mut(ExitNumber::Two).measure = ConfidenceMeasure::MaxProb;
    let changed = ExitsFile::from_bytes(draft.to_bytes().unwrap()).unwrap();
    assert_eq!(changed.exit(ExitNumber::Two).unwrap().threshold, Threshold::new(0.5));
    assert!(changed.gguf().tensors().iter().all(|info| !info.name.contains("gate")));
    assert!(changed.delta(0, "attn_q.weight").is_some());
}

#[test]
fn an_edge_part_carries_its_exits_and_the_cloud_part_nothing_of_them() {
    let bench = Bench::new();
    let plain = SplitOptions { exits: None, ..SplitOptions::of_exits(&exits(&bench.bare())) };
    let pair = plan(&bench.source, &plain, &mut |_| ()).unwrap().pair();
    let draft = bench.full();
    let file = exits(&draft);
    let (edge, cloud) = bench.split(&SplitOptions::of_exits(&file)).unwrap();
    for exit in ExitNumber::ALL {
        assert_eq!(edge.exit(exit), file.exit(exit));
        assert_eq!(cloud.exit(exit), None);
    }
    let Holding::Edge(part) = edge.holding() else { panic!("{:?}", edge.holding()) };
    assert_eq!((part.tail.as_slice(), part.exit1, part.identity.pair), (&[5, 3][..], true, pair));
    assert_eq!((part.trained_exits.as_slice(), part.exits_sha256), (&[ExitNumber::Two][..], Some(file.digest())));
    for suffix in ["norm.weight", "map.weight", "map.bias", "mlp.up.weight", "mlp.down.weight"] {
        let (own, fitted) = (edge.exit_tensor(ExitNumber::Two, suffix).unwrap(), ExitNumber::Two.tensor(suffix));
        assert_eq!(
            (own.ty, own.data),
            (file.gguf().tensor(&fitted).unwrap().ty, file.gguf().tensor(&fitted).unwrap().data)
        );
    }
    assert!(edge.exit_tensor(ExitNumber::One, "norm.weight").is_none());
    let mentions = |name: &str| name.contains("exit") || name.contains("tail");
    assert!(cloud.gguf().metadata().all(|(key, _)| !mentions(key)));
    assert!(cloud.gguf().tensors().iter().all(|info| !mentions(&info.name)));
}

#[test]
fn a_delta_is_added_to_the_weights_of_the_tail_alone() {
    let bench = Bench::new();
    let file = exits(&bench.full());
    let (edge, _) = bench.split(&SplitOptions::of_exits(&file)).unwrap();
    let source = |layer, suffix| floats(&bench.source.layer_tensor(LayerName::Block(layer), suffix).unwrap());
    let tail = |index, suffix| floats(&edge.layer_tensor(LayerName::Tail(index), suffix).unwrap());

    let (a, b) = (wave(WIDTH * RANK), wave(RANK * 64));
    for (at, (merged, weight)) in tail(0, "attn_q.weight").iter().zip(source(5, "attn_q.weight")).enumerate() {
        let (row, column) = (at / WIDTH, at % WIDTH);
        let change: f32 = (0..RANK).map(|r| b[row * RANK + r] * a[r * WIDTH + column]).sum();
        assert!((merged - weight - change).abs() < 1e-5, "at {at}: {merged} is not {weight} + {change}");
    }
    assert_eq!(tail(1, "ffn_norm.weight"), [0.5; WIDTH]);
    assert_eq!(tail(1, "attn_q.weight"), source(3, "attn_q.weight"));
    assert_eq!(tail(0, "ffn_norm.weight"), source(5, "ffn_norm.weight"));
    let lower = |file: &ModelFile| file.layer_tensor(LayerName::Block(0), "attn_q.weight").unwrap().data.to_vec();
    assert_eq!(lower(&edge), lower(&bench.source));
}

#[test]
fn an_edge_part_has_the_keys_of_all_tokens_instead_of_what_makes_them() {
    let bench = Bench::new();
    let (edge, _) = bench.split(&SplitOptions::of_exits(&exits(&bench.full()))).unwrap();
    let two = |suffix: &str| edge.exit_tensor(ExitNumber::Two, &format!("shortlist.{suffix}.weight"));
    let vocabulary = u64::from(bench.source.hyperparameters().vocabulary);
    let keys = two("keys").unwrap();
    assert_eq!((keys.ty, keys.stated_dims()), (TensorType::Q8_0, &[RANK_OF_KEYS as u64, vocabulary][..]));
    assert!(two("key").is_none() && two("query").is_some());
    let (head, key) = (floats(&bench.source.output()), wave(WIDTH * RANK_OF_KEYS));
    for (row, block) in head.chunks_exact(WIDTH).zip(keys.data.as_chunks::<34>().0) {
        let scale = f16::from_le_bytes([block[0], block[1]]).to_f32();
        for (key, value) in key.chunks_exact(WIDTH).zip(&block[2..]) {
            let expected: f32 = row.iter().zip(key).map(|(a, b)| a * b).sum();
            // The matrix was rounded before it was multiplied with.
            assert!((f32::from(*value as i8) * scale - expected).abs() < 2.0 * scale + 0.02, "{expected}");
        }
    }
}

#[test]
fn the_tail_type_is_that_of_the_tails_matrices_alone() {
    let bench = Bench::new();
    for mut draft in [bench.full(), bench.bare()] {
        draft.cut.tail_type = Some(TensorType::F16);
        let file = exits(&draft);
        let (edge, _) = bench.split(&SplitOptions::of_exits(&file)).unwrap();
        for info in edge.gguf().tensors().iter().filter(|info| !info.name.starts_with("exit.")) {
            let converted = info.name.starts_with("tail.") && info.rank > 1;
            let expected = if converted { TensorType::F16 } else { TensorType::F32 };
            assert_eq!(info.ty, expected, "{}", info.name);
        }
    }
}

#[test]
fn what_is_computed_needs_the_tensor_library() {
    let bench = Bench::new();
    let mut changed = bench.bare();
    let factor = wave(WIDTH * RANK);
    changed.set_delta(0, "attn_q.weight", RANK, [(&factor, TensorType::F32); 2]).unwrap();
    let mut listing = bench.bare();
    let factor = wave(WIDTH * RANK_OF_KEYS);
    listing.set_shortlist(ExitNumber::Two, 16, WIDTH, [&factor; 2], TensorType::F16).unwrap();
    for (draft, ty) in [(changed, TensorType::F32), (listing, TensorType::Q8_0)] {
        let file = exits(&draft);
        let plan = plan(&bench.source, &SplitOptions::of_exits(&file), &mut |_| ()).unwrap();
        let written = plan.write(&bench.path("e"), &bench.path("c"), None, &mut |_| ());
        assert!(matches!(written, Err(SplitError::NoRequantizer(needed)) if needed == ty), "{written:?}");
    }
}

#[test]
fn exits_of_another_model_or_cut_are_refused() {
    let bench = Bench::new();
    let file = exits(&bench.full());
    for options in [
        SplitOptions { upload_at: 1, ..SplitOptions::of_exits(&file) },
        SplitOptions { tail: vec![3, 5], ..SplitOptions::of_exits(&file) },
    ] {
        let error = bench.split(&options).unwrap_err();
        assert!(matches!(error, SplitError::OtherCut { upload_at: 2, .. }), "{error}");
    }
    bench.split(&SplitOptions { exit1: false, ..SplitOptions::of_exits(&file) }).unwrap();

    let mut draft = bench.full();
    draft.cut.source_sha256 = Digest::of(b"another");
    let error = bench.split(&SplitOptions::of_exits(&exits(&draft))).unwrap_err();
    let SplitError::Exits(ExitsError::Unusable { fault, .. }) = error else { panic!("{error}") };
    assert!(matches!(fault, ExitsFault::OtherModel { .. }), "{fault}");
}

#[test]
fn what_a_model_says_about_exits_does_not_reach_its_parts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("source.gguf");
    let metadata = vec![("collm.exit.2.confidence".to_owned(), Value::string("gate"))];
    SyntheticModel { metadata, ..SyntheticModel::new(Architecture::Llama) }.write(&path).unwrap();
    let bench = Bench { source: ModelFile::open(&path).unwrap(), folder };
    let options = SplitOptions { exits: None, ..SplitOptions::of_exits(&exits(&bench.bare())) };
    assert_eq!(bench.split(&options).unwrap().0.exit(ExitNumber::Two), None);
}

fn exits(draft: &ExitsDraft) -> ExitsFile {
    ExitsFile::from_bytes(draft.to_bytes().unwrap()).unwrap()
}

/// A file taken apart, so that it can be put together wrong.
struct Parts {
    keys: Vec<(String, Value<'static>)>,
    tensors: Vec<(String, TensorType, Vec<u64>, Vec<u8>)>,
}

impl Parts {
    fn of(bytes: &[u8]) -> Self {
        let gguf = Gguf::from_bytes(bytes.to_vec()).unwrap();
        let tensor = |name: &str| gguf.tensor(name).unwrap();
        let copy =
            |view: TensorView<'_>| (view.name.to_owned(), view.ty, view.stated_dims().to_vec(), view.data.to_vec());
        let tensors = gguf.tensors().iter().map(|info| copy(tensor(&info.name))).collect();
        Self { keys: gguf.metadata().map(|(key, value)| (key.to_owned(), owned(&value))).collect(), tensors }
    }

    fn key(&mut self, key: &str, value: Value<'static>) {
        self.keys.retain(|(known, _)| known != key);
        self.keys.push((key.to_owned(), value));
    }

    fn tensor(&mut self, name: &str, ty: TensorType, dims: &[u64], data: Vec<u8>) {
        self.remove(name);
        self.tensors.push((name.to_owned(), ty, dims.to_vec(), data));
    }

    fn f32(&mut self, name: &str, dims: &[u64], values: &[f32]) {
        self.tensor(name, TensorType::F32, dims, values.iter().flat_map(|value| value.to_le_bytes()).collect());
    }

    fn remove(&mut self, name: &str) {
        self.tensors.retain(|(known, ..)| known != name);
        self.keys.retain(|(known, _)| known != name);
    }

    fn bytes(&self) -> Vec<u8> {
        let mut writer = GgufWriter::new();
        for (key, value) in &self.keys {
            writer.set(key, value.clone());
        }
        for (name, ty, dims, _) in &self.tensors {
            writer.add_tensor(name, *ty, dims).unwrap();
        }
        let data = |wanted: &str| &self.tensors.iter().find(|(name, ..)| name == wanted).unwrap().3;
        writer.to_bytes(|name, out| out.write_all(data(name))).unwrap()
    }
}

fn owned(value: &Value<'_>) -> Value<'static> {
    match value {
        Value::U32(number) => Value::U32(*number),
        Value::F32(number) => Value::F32(*number),
        Value::F64(number) => Value::F64(*number),
        Value::Bool(truth) => Value::Bool(*truth),
        Value::String(text) => Value::string(text.clone()),
        Value::Array(array) => Value::Array(Array::new(array.element(), array.iter().map(|value| owned(&value)))),
        other => panic!("exits files hold no {other:?}"),
    }
}

#[test]
fn keys_that_make_no_sense_are_refused() {
    let bench = Bench::new();
    let whole = bench.full().to_bytes().unwrap();
    assert_eq!(bench.fault(whole.clone()), None, "as it was made");
    for (key, value) in [
        ("collm.exits.source_sha256", Value::string("abc")),
        ("collm.exits.upload_at", Value::U32(0)),
        ("collm.exits.upload_at", Value::U32(6)),
        ("collm.exits.upload_at", Value::string("2")),
        ("collm.exits.tail", Value::Array(Array::of_u32(&[5, 6]))),
        ("collm.exits.tail", Value::Array(Array::of_u32(&[5, 5]))),
        ("collm.exits.tail", Value::Array(Array::of_u32(&[u32::MAX, 5]))),
        ("collm.exits.tail", Value::Array(Array::new(ValueType::I32, [Value::I32(-1)]))),
        ("collm.exits.exit1", Value::U32(1)),
        ("collm.exits.tail_type", Value::string("q9_9")),
        ("collm.exits.tail_type", Value::string("i32")),
        ("collm.exit.2.confidence", Value::string("certainty")),
        ("collm.exit.2.confidence", Value::U32(1)),
        ("collm.exit.2.threshold", Value::F32(f32::NAN)),
        ("collm.exit.2.threshold", Value::F32(-0.1)),
        ("collm.exit.2.threshold", Value::F32(1.5)),
        ("collm.exit.2.shortlist.length", Value::U32(7)),
        ("collm.exit.2.shortlist.length", Value::U32(u32::MAX)),
        ("collm.exit.2.shortlist.length", Value::F32(16.0)),
        ("collm.exit.2.calibration.target", Value::F32(f32::INFINITY)),
        ("collm.exit.2.calibration.target", Value::string("0.97")),
    ] {
        let mut parts = Parts::of(&whole);
        parts.key(key, value.clone());
        assert_eq!(bench.fault(parts.bytes()), Some(ExitsFault::Key(key.to_owned())), "{value:?}");
    }
    for key in ["source_sha256", "upload_at", "tail", "exit1"].map(|key| format!("collm.exits.{key}")) {
        let mut parts = Parts::of(&whole);
        parts.remove(&key);
        assert_eq!(bench.fault(parts.bytes()), Some(ExitsFault::Key(key)));
    }
    for version in [Value::U32(2), Value::U32(4), Value::string("3")] {
        let mut parts = Parts::of(&whole);
        parts.key("collm.exits.version", version);
        assert_eq!(bench.fault(parts.bytes()), Some(ExitsFault::Version));
    }
}

#[test]
fn tensors_that_make_no_sense_are_refused() {
    type Edit = fn(&mut Parts);
    let edits: [(&str, Edit); 37] = [
        (QUERY, |parts| parts.remove(QUERY)),
        (KEY, |parts| parts.remove(KEY)),
        (QUERY, |parts| parts.f32(QUERY, &[64, 33], &[0.1; 64 * 33])),
        (QUERY, |parts| parts.f32(QUERY, &[64, 96], &[0.1; 64 * 96])),
        (QUERY, |parts| parts.f32(QUERY, &[32, 32], &[0.1; 32 * 32])),
        (KEY, |parts| parts.f32(KEY, &[64, 64], &[0.1; 64 * 64])),
        (KEY, |parts| parts.f32(KEY, &[64, 32], &[f32::NAN; 64 * 32])),
        (KEY, |parts| parts.remove("collm.exit.2.shortlist.length")),
        ("exit.2.norm.weight", |parts| parts.f32("exit.2.norm.weight", &[63], &[1.0; 63])),
        ("exit.2.norm.weight", |parts| parts.f32("exit.2.norm.weight", &[64], &[f32::NAN; 64])),
        ("exit.2.map.weight", |parts| parts.remove("exit.2.map.weight")),
        ("exit.2.map.weight", |parts| parts.tensor("exit.2.map.weight", TensorType::I8, &[64, 64], vec![0; 64 * 64])),
        ("exit.2.map.weight", |parts| parts.tensor("exit.2.map.weight", TensorType::Q4_0, &[64, 64], vec![0; 2304])),
        ("exit.2.mlp.up.weight", |parts| parts.remove("exit.2.mlp.up.weight")),
        ("exit.2.mlp.down.weight", |parts| parts.remove("exit.2.mlp.down.weight")),
        ("exit.2.mlp.down.weight", |parts| parts.f32("exit.2.mlp.down.weight", &[31, 64], &[0.0; 31 * 64])),
        ("exit.2.gate.mean", |parts| parts.remove("exit.2.gate.mean")),
        ("exit.2.gate.mean", |parts| parts.f32("exit.2.gate.mean", &[7], &[0.0; 7])),
        ("exit.2.gate.scale", |parts| parts.f32("exit.2.gate.scale", &[8], &[f32::INFINITY; 8])),
        ("exit.2.gate.look.weight", |parts| parts.f32("exit.2.gate.look.weight", &[32, 3], &[0.0; 96])),
        ("exit.2.gate.up.weight", |parts| parts.remove("exit.2.gate.look.weight")),
        ("exit.2.gate.up.weight", |parts| parts.f32("exit.2.gate.up.weight", &[11, 5], &[0.0; 55])),
        ("exit.2.gate.up.bias", |parts| parts.f32("exit.2.gate.up.bias", &[1 << 16], &[0.0; 1 << 16])),
        ("exit.2.gate.down.weight", |parts| parts.remove("exit.2.gate.down.weight")),
        ("exit.2.gate.down.bias", |parts| parts.f32("exit.2.gate.down.bias", &[2], &[0.0; 2])),
        ("exit.2.gate.calibration", |parts| parts.remove("exit.2.gate.calibration")),
        ("exit.2.gate.calibration", |parts| parts.f32("exit.2.gate.calibration", &[2, 2], &[1.0, 1.0, 0.1, 0.2])),
        ("exit.2.gate.calibration", |parts| parts.f32("exit.2.gate.calibration", &[2, 2], &[1.0, 2.0, 0.2, 0.1])),
        ("exit.2.gate.calibration", |parts| parts.f32("exit.2.gate.calibration", &[2, 2], &[1.0, 2.0, 0.2, 1.1])),
        ("exit.2.gate.calibration", |parts| parts.f32("exit.2.gate.calibration", &[2, 3], &[0.0; 6])),
        ("tail.0.attn_q.weight.a", |parts| parts.remove("tail.0.attn_q.weight.a")),
        ("tail.0.attn_q.weight.b", |parts| parts.remove("tail.0.attn_q.weight.b")),
        ("tail.0.attn_q.weight.a", |parts| parts.f32("tail.0.attn_q.weight.a", &[64, 65], &[0.0; 64 * 65])),
        ("tail.0.attn_q.weight.b", |parts| parts.f32("tail.0.attn_q.weight.b", &[3, 64], &[0.0; 3 * 64])),
        ("tail.1.ffn_norm.weight", |parts| parts.f32("tail.1.ffn_norm.weight", &[32], &[0.0; 32])),
        ("tail.2.ffn_norm.weight", |parts| parts.f32("tail.2.ffn_norm.weight", &[64], &[0.0; 64])),
        ("exit.3.norm.weight", |parts| parts.f32("exit.3.norm.weight", &[64], &[0.0; 64])),
    ];
    let bench = Bench::new();
    let whole = bench.full().to_bytes().unwrap();
    for (index, (name, edit)) in edits.into_iter().enumerate() {
        let mut parts = Parts::of(&whole);
        edit(&mut parts);
        let fault = bench.fault(parts.bytes()).unwrap_or_else(|| panic!("edit {index} of {name} went unnoticed"));
        let message = fault.to_string();
        assert!(message.contains(&format!("{name:?}")), "edit {index}: {message}");
    }
}

#[test]
fn a_gate_as_measure_must_be_there() {
    let bench = Bench::new();
    let mut draft = bench.bare();
    draft.exit_mut(ExitNumber::Two).measure = ConfidenceMeasure::Gate;
    let Err(ExitsError::Unusable { fault, .. }) = draft.to_bytes() else { panic!("a gate out of nothing") };
    assert_eq!(fault, ExitsFault::NoGate { exit: 2 });
}

#[test]
fn an_edge_part_with_broken_exits_is_refused() {
    let bench = Bench::new();
    let file = exits(&bench.full());
    bench.split(&SplitOptions::of_exits(&file)).unwrap();
    let edge = std::fs::read(bench.path("edge.gguf")).unwrap();
    assert!(ModelFile::from_bytes(edge.clone()).is_ok());
    for lost in ["exit.2.gate.scale", "exit.2.shortlist.query", "exit.2.shortlist.keys"] {
        let name = edge.windows(lost.len()).position(|bytes| bytes == lost.as_bytes()).unwrap();
        let mut broken = edge.clone();
        broken[name + lost.len() - 1] = b'x';
        let error = ModelFile::from_bytes(broken).unwrap_err();
        assert!(matches!(error, ModelError::Exits { .. }), "{lost}: {error}");
    }
}

#[test]
fn damaged_files_are_refused_or_read_but_never_a_panic() {
    let bench = Bench::new();
    let mut draft = bench.bare();
    let factor = wave(WIDTH * RANK_OF_KEYS);
    draft.set_shortlist(ExitNumber::Two, 16, WIDTH, [&factor; 2], TensorType::Q8_0).unwrap();
    let info = draft.exit_mut(ExitNumber::Two);
    info.gate = Some(GateWeights { look: None, up: wave(4 * GATE_SCALARS), ..gate() });
    let whole = draft.to_bytes().unwrap();
    let check = |bytes: Vec<u8>| {
        let file = ExitsFile::from_bytes(bytes)?;
        file.check(bench.source.hyperparameters(), bench.digest())
    };
    check(whole.clone()).unwrap();
    let last_data = whole.len() - 32;
    for length in 0..last_data {
        assert!(check(whole[..length].to_vec()).is_err(), "cut to {length} bytes");
    }
    for at in 0..whole.len() {
        for flipped in [0x01, 0x80, 0xff] {
            let mut damaged = whole.clone();
            damaged[at] ^= flipped;
            // Numbers may have changed to others that make sense.
            drop(check(damaged));
        }
    }
}
