//! Models and parts as wholes: what is accepted, what is refused, and by which name.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::Write;
use std::path::Path;
use std::sync::LazyLock;

use collm_model::gguf::{Array, Gguf, GgufWriter, Value, ValueType};
use collm_model::synthetic::SyntheticModel;
use collm_model::{
    Architecture, Holding, HyperparameterError, ModelError, ModelFile, PartError, RopeScaling, TensorError,
};
use proptest::prelude::*;
use tempfile::TempDir;

/// A synthetic model's file, to be copied with changes.
struct Original {
    folder: TempDir,
    gguf: Gguf,
}

impl Original {
    fn of(model: &SyntheticModel) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("original.gguf");
        model.write(&path).unwrap();
        Self { gguf: Gguf::open(&path).unwrap(), folder }
    }

    /// Opens a copy with `change` made to its metadata, `names` to its tensor names (`None` leaves the tensor out).
    fn open_changed(
        &self,
        change: impl FnOnce(&mut GgufWriter<'_>),
        names: impl Fn(&str) -> Option<String>,
    ) -> Result<ModelFile, ModelError> {
        let mut writer = GgufWriter::new();
        for (key, value) in self.gguf.metadata() {
            writer.set(key, value);
        }
        change(&mut writer);
        let mut data = Vec::new();
        for info in self.gguf.tensors() {
            if let Some(name) = names(&info.name) {
                let tensor = self.gguf.tensor(&info.name).unwrap();
                writer.add_tensor(&name, tensor.ty, tensor.stated_dims()).unwrap();
                data.push(tensor.data);
            }
        }
        let path = self.folder.path().join("changed.gguf");
        let mut data = data.into_iter();
        writer.write(&path, |_, out: &mut dyn Write| out.write_all(data.next().unwrap())).unwrap();
        ModelFile::open(&path)
    }

    fn with(&self, key: &str, value: Value<'static>) -> Result<ModelFile, ModelError> {
        self.open_changed(|writer| writer.set(key, value), |name| Some(name.to_owned()))
    }

    fn hyperparameter_error(&self, key: &str, value: Value<'static>) -> HyperparameterError {
        match self.with(key, value) {
            Err(ModelError::Hyperparameters { source, .. }) => source,
            other => panic!("{key} should be refused, not {other:?}"),
        }
    }
}

fn original(architecture: Architecture) -> Original {
    Original::of(&SyntheticModel::new(architecture))
}

#[test]
fn every_architecture_opens_whole() {
    for architecture in Architecture::ALL {
        for (tied, biases) in [(true, true), (false, false)] {
            let model = SyntheticModel { tied, biases, rope_factors: biases, ..SyntheticModel::new(architecture) };
            let original = Original::of(&model);
            let file = ModelFile::open(&original.folder.path().join("original.gguf")).unwrap();
            let h = file.hyperparameters();
            assert_eq!((h.architecture, h.layers, h.vocabulary), (architecture, 6, 300));
            assert_eq!(*file.holding(), Holding::Whole);
            assert_eq!(file.holding().layers(h).count(), 6);
            let output = if tied { "token_embd.weight" } else { "output.weight" };
            assert_eq!(file.output().name, output);
        }
    }
}

#[test]
fn the_same_seed_makes_the_same_file() {
    let digest = |seed| {
        let original = Original::of(&SyntheticModel { seed, ..SyntheticModel::new(Architecture::Qwen2) });
        collm_model::Digest::of(original.gguf.bytes())
    };
    assert_eq!(digest(7), digest(7));
    assert_ne!(digest(7), digest(8));
}

#[test]
fn other_architectures_are_refused_by_name() {
    let error = original(Architecture::Llama).hyperparameter_error("general.architecture", Value::string("mamba"));
    assert_eq!(error, HyperparameterError::Architecture("mamba".to_owned()));
    for name in ["mamba", "llama", "qwen2", "qwen3", "gemma3"] {
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn what_the_engine_cannot_compute_is_refused_by_name() {
    let llama = original(Architecture::Llama);
    for (key, value, text) in [
        ("llama.expert_count", Value::U32(8), "8 experts"),
        ("llama.rope.scaling.type", Value::string("longrope"), "longrope"),
        ("llama.attention.causal", Value::Bool(false), "llama.attention.causal"),
        ("llama.final_logit_softcapping", Value::F32(30.0), "final_logit_softcapping = 30"),
        ("llama.attention.head_count_kv", Value::U32(3), "head_count_kv"),
        ("llama.attention.value_length", Value::U32(8), "value_length"),
        ("llama.rope.dimension_count", Value::U32(8), "rope.dimension_count"),
    ] {
        let error = llama.hyperparameter_error(key, value).to_string();
        assert!(error.contains(text), "{error}");
    }
}

#[test]
fn impossible_metadata_is_refused_by_key() {
    let llama = original(Architecture::Llama);
    for (key, value) in [
        ("llama.block_count", Value::U32(0)),
        ("llama.block_count", Value::U32(100_000)),
        ("llama.embedding_length", Value::string("wide")),
        ("llama.embedding_length", Value::I32(-64)),
        ("llama.attention.head_count", Value::U32(0)),
        ("llama.attention.key_length", Value::U32(u32::MAX)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(f32::NAN)),
        ("llama.rope.freq_base", Value::F32(-1.0)),
        ("llama.rope.scaling.factor", Value::F32(f32::INFINITY)),
        ("llama.rope.scaling.factor", Value::F32(1e-40)),
        ("llama.rope.scaling.factor", Value::F32(-2.0)),
        ("tokenizer.ggml.tokens", Value::Array(Array::of_u32(&[]))),
    ] {
        let error = llama.hyperparameter_error(key, value).to_string();
        assert!(error.contains(key), "{error}");
    }
}

#[test]
fn rope_scaling_is_read_as_llama_cpp_reads_it() {
    let llama = original(Architecture::Llama);
    let rope = |scaling: &str| {
        let change = |writer: &mut GgufWriter<'_>| {
            writer.set("llama.rope.scaling.type", Value::string(scaling));
            writer.set("llama.rope.scaling.factor", Value::F32(4.0));
            writer.set("llama.rope.scaling.original_context_length", Value::U32(128));
        };
        llama.open_changed(change, |name| Some(name.to_owned())).unwrap().hyperparameters().rope
    };
    let yarn = rope("yarn");
    assert_eq!((yarn.scaling, yarn.frequency_scale, yarn.ext_factor), (RopeScaling::Yarn, 0.25, 1.0));
    assert_eq!((yarn.attn_factor, yarn.context_original), (1.0, 128));
    assert_eq!((rope("linear").frequency_scale, rope("linear").ext_factor), (0.25, 0.0));
    assert_eq!(rope("none").frequency_scale, 1.0);
}

#[test]
fn sliding_layers_follow_the_pattern() {
    let gemma = original(Architecture::Gemma3);
    let key = "gemma3.attention.sliding_window_pattern";
    let local = |file: &ModelFile| {
        let h = file.hyperparameters();
        (0..h.layers).map(|layer| if h.is_local(layer) { 's' } else { 'g' }).collect::<String>()
    };
    let unchanged = |name: &str| Some(name.to_owned());
    assert_eq!(local(&gemma.open_changed(|_| (), unchanged).unwrap()), "sssssg");
    assert_eq!(local(&gemma.with(key, Value::U32(3)).unwrap()), "ssgssg");
    let flags = [true, false, false, true, true, false].map(Value::Bool);
    let listed = Value::Array(Array::new(ValueType::Bool, flags));
    assert_eq!(local(&gemma.with(key, listed).unwrap()), "sggssg");
    assert!(gemma.with(key, Value::Array(Array::of_u32(&[1]))).is_err());
    let none = gemma.with("gemma3.attention.sliding_window", Value::U32(0)).unwrap();
    assert_eq!(local(&none), "gggggg");
    assert_eq!(none.hyperparameters().rope.base_local, None);
}

#[test]
fn missing_and_unknown_tensors_are_named() {
    let rename = |original: &Original, from: &str, to: Option<&str>| {
        let names = |name: &str| if name == from { to.map(str::to_owned) } else { Some(name.to_owned()) };
        match original.open_changed(|_| (), names) {
            Err(ModelError::Tensor { source, .. }) => source,
            other => panic!("expected a tensor error, got {other:?}"),
        }
    };
    let missing = |name: &str| TensorError::Missing(name.to_owned());
    let llama = original(Architecture::Llama);
    for name in ["blk.5.ffn_down.weight", "output_norm.weight", "token_embd.weight"] {
        assert_eq!(rename(&llama, name, None), missing(name));
    }
    let unknown = TensorError::Unknown("blk.0.attn_q.scale".to_owned());
    assert_eq!(rename(&llama, "output.weight", Some("blk.0.attn_q.scale")), unknown);
    let qwen3 = original(Architecture::Qwen3);
    assert_eq!(rename(&qwen3, "blk.2.attn_k_norm.weight", None), missing("blk.2.attn_k_norm.weight"));
    let gemma3 = original(Architecture::Gemma3);
    assert_eq!(rename(&gemma3, "blk.0.post_ffw_norm.weight", None), missing("blk.0.post_ffw_norm.weight"));
    let qwen2 = original(Architecture::Qwen2);
    assert_eq!(rename(&qwen2, "blk.1.attn_v.bias", None), missing("blk.1.attn_v.bias"));
}

#[test]
fn tensors_that_contradict_the_metadata_are_named() {
    let llama = original(Architecture::Llama);
    let error = llama.with("llama.feed_forward_length", Value::U32(256)).unwrap_err();
    assert!(error.to_string().contains("blk.0.ffn_gate.weight"), "{error}");
}

#[test]
fn stray_part_keys_make_no_whole_model() {
    let error = original(Architecture::Llama).with("collm.part.role", Value::string("edge")).unwrap_err();
    assert!(matches!(error, ModelError::Part { source: PartError::Key { .. }, .. }), "{error}");
    let error = original(Architecture::Llama).with("collm.part.version", Value::U32(3)).unwrap_err();
    assert!(matches!(error, ModelError::Part { source: PartError::Version(3), .. }), "{error}");
}

#[test]
fn errors_name_the_file() {
    let error = ModelFile::open(Path::new("/nonexistent.gguf")).unwrap_err();
    assert!(error.to_string().contains("/nonexistent.gguf"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is wrong with a header, opening says so or gives a model whose tensors are all there.
    #[test]
    fn mutated_models_never_panic(
        architecture in prop::sample::select(Architecture::ALL.to_vec()),
        edits in prop::collection::vec((0..HEADER_BYTES, any::<u8>()), 1..6),
    ) {
        let mut bytes = smallest(architecture);
        for (at, value) in edits {
            bytes[at] = value;
        }
        if let Ok(file) = ModelFile::from_bytes(bytes) {
            let h = file.hyperparameters();
            prop_assert!(h.attention_scale.is_finite() && h.rope.attn_factor.is_finite());
            for layer in file.holding().layers(h) {
                prop_assert!(file.layer_tensor(layer, "attn_q.weight").is_some());
            }
        }
    }
}

/// Numbers of the model are in the first bytes, before the vocabulary.
const HEADER_BYTES: usize = 900;

fn smallest(architecture: Architecture) -> Vec<u8> {
    static FILES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
        let model = |architecture| SyntheticModel { layers: 1, ffn: 32, ..SyntheticModel::new(architecture) };
        Architecture::ALL.map(|architecture| Original::of(&model(architecture)).gguf.bytes().to_vec()).to_vec()
    });
    FILES[Architecture::ALL.iter().position(|&each| each == architecture).unwrap()].clone()
}
