//! Splitting: each part holds exactly its share, says what it is, and nothing is ever half-written.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::error::Error;
use std::path::{Path, PathBuf};

use collm_model::gguf::TensorType;
use collm_model::split::{Requantize, SplitError, SplitOptions, plan};
use collm_model::synthetic::SyntheticModel;
use collm_model::{Architecture, Digest, Holding, LayerName, ModelError, ModelFile, PairId};
use tempfile::TempDir;

struct Bench {
    folder: TempDir,
    source: ModelFile,
}

impl Bench {
    fn new(model: &SyntheticModel) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("source.gguf");
        model.write(&path).unwrap();
        Self { source: ModelFile::open(&path).unwrap(), folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn split(&self, options: &SplitOptions<'_>) -> Result<(ModelFile, ModelFile), SplitError> {
        let (edge, cloud) = (self.path("edge.gguf"), self.path("cloud.gguf"));
        plan(&self.source, options, &mut |_| ())?.write(&edge, &cloud, Some(&Zeros), &mut |_| ())?;
        Ok((ModelFile::open(&edge).unwrap(), ModelFile::open(&cloud).unwrap()))
    }

    fn pair(&self, options: &SplitOptions<'_>) -> PairId {
        plan(&self.source, options, &mut |_| ()).unwrap().pair()
    }
}

/// Stands in for the tensor library: right sizes, no values.
struct Zeros;

impl Requantize for Zeros {
    fn requantize(
        &self,
        from: TensorType,
        to: TensorType,
        row_values: u64,
        rows: &[u8],
    ) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
        let count = rows.len() as u64 / from.row_bytes(row_values).unwrap();
        Ok(vec![0; (count * to.row_bytes(row_values).unwrap()) as usize])
    }
}

fn options(upload_at: u32, tail: &[u32]) -> SplitOptions<'static> {
    SplitOptions { upload_at, tail: tail.to_vec(), exit1: false, requantize: None, exits: None }
}

fn llama() -> Bench {
    Bench::new(&SyntheticModel::new(Architecture::Llama))
}

/// The layers a file has tensors of, as prefixes of their names.
fn layer_prefixes(file: &ModelFile) -> BTreeSet<String> {
    let prefix = |name: &str| name.splitn(3, '.').take(2).collect::<Vec<_>>().join(".");
    let names = file.gguf().tensors().iter().map(|info| &*info.name);
    names.filter(|name| name.starts_with("blk.") || name.starts_with("tail.")).map(prefix).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[test]
fn each_part_holds_its_layers_and_no_others() {
    for architecture in Architecture::ALL {
        for tied in [false, true] {
            let bench = Bench::new(&SyntheticModel { tied, rope_factors: true, ..SyntheticModel::new(architecture) });
            let (edge, cloud) = bench.split(&options(2, &[5, 3])).unwrap();
            assert_eq!(layer_prefixes(&edge), set(&["blk.0", "blk.1", "tail.0", "tail.1"]));
            assert_eq!(layer_prefixes(&cloud), set(&["blk.2", "blk.3", "blk.4", "blk.5"]));
            assert!(edge.tensor("token_embd.weight").is_some());
            assert_eq!(cloud.tensor("token_embd.weight").is_some(), tied, "the cloud reads states, not tokens");
            assert_eq!(edge.output().data, bench.source.output().data);
            assert_eq!(cloud.output().data, bench.source.output().data);
            let factors = |file: &ModelFile| file.tensor("rope_freqs.weight").is_some();
            assert_eq!((factors(&edge), factors(&cloud)), (factors(&bench.source), factors(&bench.source)));
        }
    }
}

#[test]
fn tensors_are_copied_byte_for_byte() {
    for weights in [TensorType::F16, TensorType::Q8_0, TensorType::Q4_0] {
        let bench = Bench::new(&SyntheticModel { weights, ..SyntheticModel::new(Architecture::Qwen3) });
        let (edge, cloud) = bench.split(&options(1, &[4, 0])).unwrap();
        for (file, name, layer) in [
            (&edge, LayerName::Block(0), 0),
            (&edge, LayerName::Tail(0), 4),
            (&edge, LayerName::Tail(1), 0),
            (&cloud, LayerName::Block(5), 5),
        ] {
            for suffix in ["attn_q.weight", "attn_k_norm.weight", "ffn_down.weight"] {
                let copy = file.layer_tensor(name, suffix).unwrap();
                let original = bench.source.layer_tensor(LayerName::Block(layer), suffix).unwrap();
                assert_eq!((copy.ty, copy.dims, copy.data), (original.ty, original.dims, original.data));
            }
        }
    }
}

#[test]
fn parts_keep_all_metadata_and_say_what_they_are() {
    let bench = llama();
    let (edge, cloud) = bench.split(&SplitOptions { exit1: true, ..options(2, &[3, 5]) }).unwrap();
    for (key, value) in bench.source.gguf().metadata() {
        assert_eq!(edge.gguf().value(key).as_ref(), Some(&value), "{key}");
        assert_eq!(cloud.gguf().value(key).as_ref(), Some(&value), "{key}");
    }
    let Holding::Edge(part) = edge.holding() else { panic!("{:?}", edge.holding()) };
    assert_eq!((part.tail.as_slice(), part.exit1), (&[3, 5][..], true));
    assert_eq!((part.trained_exits.len(), part.exits_sha256), (0, None));
    assert_eq!((part.identity.upload_at, part.identity.layers), (2, 6));
    assert_eq!(part.identity.source_sha256, Digest::of(&std::fs::read(bench.path("source.gguf")).unwrap()));
    assert_eq!(part.identity.source_name, "source.gguf");
    assert_eq!(cloud.holding().identity(), Some(&part.identity));
}

#[test]
fn the_pair_depends_on_what_the_cloud_must_agree_on() {
    let bench = llama();
    let pair = bench.pair(&options(2, &[3]));
    assert_eq!(pair, bench.pair(&SplitOptions { exit1: true, ..options(2, &[4, 5]) }), "the tail is the edge's affair");
    assert_ne!(pair, bench.pair(&options(3, &[3])));
    assert_ne!(pair, bench.pair(&SplitOptions { requantize: Some(TensorType::Q8_0), ..options(2, &[3]) }));
    let other = Bench::new(&SyntheticModel { seed: 9, ..SyntheticModel::new(Architecture::Llama) });
    assert_ne!(pair, other.pair(&options(2, &[3])));
    assert_eq!(pair.to_string().parse::<PairId>().unwrap(), pair);
}

#[test]
fn requantised_parts_change_matrices_only() {
    let bench = llama();
    let (edge, cloud) = bench.split(&SplitOptions { requantize: Some(TensorType::Q8_0), ..options(2, &[3]) }).unwrap();
    for file in [&edge, &cloud] {
        for info in file.gguf().tensors() {
            let expected = if info.rank == 1 { TensorType::F32 } else { TensorType::Q8_0 };
            assert_eq!(info.ty, expected, "{}", info.name);
        }
    }
    let ragged = SplitOptions { requantize: Some(TensorType::Q4_K), ..options(2, &[3]) };
    let (edge, _) = bench.split(&ragged).unwrap();
    assert_eq!(edge.tensor("token_embd.weight").unwrap().ty, TensorType::F32, "64 is no multiple of 256");
}

#[test]
fn progress_reaches_the_end() {
    let bench = llama();
    let mut digest = Vec::new();
    let plan = plan(&bench.source, &options(2, &[]), &mut |progress| digest.push(progress)).unwrap();
    let last = digest.last().unwrap();
    assert_eq!(Some(last.done_bytes), last.total_bytes);
    let mut copy = Vec::new();
    plan.write(&bench.path("e"), &bench.path("c"), None, &mut |progress| copy.push(progress)).unwrap();
    let last = copy.last().unwrap();
    assert_eq!(Some(last.done_bytes), last.total_bytes);
    assert_eq!(last.done_bytes, plan.edge().data_bytes() + plan.cloud().data_bytes());
    assert!(copy.is_sorted_by_key(|progress| progress.done_bytes));
}

#[test]
fn impossible_splits_are_refused() {
    let bench = llama();
    let refused = |options: &SplitOptions<'_>| bench.split(options).unwrap_err();
    assert!(matches!(refused(&options(0, &[])), SplitError::UploadAt { upload_at: 0, layers: 6 }));
    assert!(matches!(refused(&options(6, &[])), SplitError::UploadAt { upload_at: 6, layers: 6 }));
    assert!(matches!(refused(&options(2, &[6])), SplitError::Tail { layer: 6, .. }));
    assert!(matches!(refused(&options(2, &[4, 4])), SplitError::Tail { layer: 4, .. }));
    let integers = SplitOptions { requantize: Some(TensorType::I32), ..options(2, &[]) };
    assert!(matches!(refused(&integers), SplitError::NoWeightType(TensorType::I32)));
    let without_library = SplitOptions { requantize: Some(TensorType::Q8_0), ..options(2, &[]) };
    let plan = plan(&bench.source, &without_library, &mut |_| ()).unwrap();
    let written = plan.write(&bench.path("e"), &bench.path("c"), None, &mut |_| ());
    assert!(matches!(written, Err(SplitError::NoRequantizer(TensorType::Q8_0))));
}

#[test]
fn a_part_is_not_split_again() {
    let bench = llama();
    let (edge, cloud) = bench.split(&options(2, &[3])).unwrap();
    for part in [edge, cloud] {
        let error = plan(&part, &options(2, &[3]), &mut |_| ()).unwrap_err();
        assert!(matches!(error, SplitError::AlreadySplit(_)), "{error}");
    }
}

#[test]
fn outputs_never_replace_the_source_or_each_other() {
    let bench = llama();
    let plan = plan(&bench.source, &options(2, &[3]), &mut |_| ()).unwrap();
    let before = std::fs::read(bench.path("source.gguf")).unwrap();
    let link = bench.path("link.gguf");
    std::os::unix::fs::symlink(bench.path("source.gguf"), &link).unwrap();
    for (edge, cloud) in
        [("source.gguf", "cloud.gguf"), ("link.gguf", "cloud.gguf"), ("edge.gguf", "source.gguf"), ("same", "same")]
    {
        let written = plan.write(&bench.path(edge), &bench.path(cloud), None, &mut |_| ());
        assert!(matches!(written, Err(SplitError::SamePath(_))), "{edge} {cloud}");
    }
    assert_eq!(std::fs::read(bench.path("source.gguf")).unwrap(), before);
}

#[test]
fn a_failed_split_leaves_both_outputs_as_they_were() {
    struct Broken;
    impl Requantize for Broken {
        fn requantize(
            &self,
            _: TensorType,
            _: TensorType,
            _: u64,
            _: &[u8],
        ) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
            Err("no".into())
        }
    }
    let bench = llama();
    let (edge, cloud) = (bench.path("edge.gguf"), bench.path("cloud.gguf"));
    std::fs::write(&edge, "old edge").unwrap();
    std::fs::write(&cloud, "old cloud").unwrap();
    let options = SplitOptions { requantize: Some(TensorType::Q8_0), ..options(2, &[3]) };
    let plan = plan(&bench.source, &options, &mut |_| ()).unwrap();
    assert!(plan.write(&edge, &cloud, Some(&Broken), &mut |_| ()).is_err());
    assert!(plan.write(&edge, Path::new("/nonexistent/cloud"), Some(&Zeros), &mut |_| ()).is_err());
    assert_eq!(std::fs::read_to_string(edge).unwrap(), "old edge");
    assert_eq!(std::fs::read_to_string(cloud).unwrap(), "old cloud");
    assert_eq!(std::fs::read_dir(bench.folder.path()).unwrap().count(), 3);
}

#[test]
fn a_truncated_part_is_refused() {
    let bench = llama();
    bench.split(&options(2, &[3])).unwrap();
    let bytes = std::fs::read(bench.path("cloud.gguf")).unwrap();
    std::fs::write(bench.path("cut.gguf"), &bytes[..bytes.len() - 64]).unwrap();
    let error = ModelFile::open(&bench.path("cut.gguf")).unwrap_err();
    assert!(matches!(error, ModelError::Gguf(_)), "{error}");
}
