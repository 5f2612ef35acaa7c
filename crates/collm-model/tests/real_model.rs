//! The default model itself: fetched once into the user's cache, opened and split by its preset.

#![allow(clippy::unwrap_used, reason = "tests")]

use collm_model::fetch::Fetcher;
use collm_model::split::plan;
use collm_model::template::{ChatTemplate, Message};
use collm_model::{Alias, Architecture, Digest, Holding, ModelFile, ModelReference};

fn open(alias: Alias) -> ModelFile {
    let path = Fetcher::from_environment().unwrap().fetch(&ModelReference::Alias(alias), &mut |_| ()).unwrap();
    ModelFile::open(&path).unwrap()
}

#[test]
fn the_default_model_is_what_it_should_be() {
    let model = open(Alias::SmolLm2_135m);
    let h = model.hyperparameters();
    assert_eq!((h.architecture, h.layers, h.width, h.vocabulary), (Architecture::Llama, 30, 576, 49_152));
    assert_eq!((h.heads, h.kv_heads, h.head_dim_k, h.ffn), (9, 3, 64, 1536));
    assert_eq!((h.rope.base, h.rms_eps, h.attention_scale), (100_000.0, 1e-5, 0.125));
    assert_eq!(Alias::of_digest(model.digest(|_| ())), Some(Alias::SmolLm2_135m));
}

#[test]
fn the_default_model_splits_by_its_preset() {
    let model = open(Alias::SmolLm2_135m);
    let folder = tempfile::tempdir().unwrap();
    let (edge_path, cloud_path) = (folder.path().join("edge.gguf"), folder.path().join("cloud.gguf"));
    let options = Alias::SmolLm2_135m.preset().options();
    plan(&model, &options, &mut |_| ()).unwrap().write(&edge_path, &cloud_path, None, &mut |_| ()).unwrap();
    let (edge, cloud) = (ModelFile::open(&edge_path).unwrap(), ModelFile::open(&cloud_path).unwrap());
    assert_eq!(edge.holding().identity(), cloud.holding().identity());
    let identity = edge.holding().identity().unwrap();
    assert_eq!((identity.upload_at, identity.layers), (10, 30));
    assert_eq!(identity.source_sha256, Digest::of(model.gguf().bytes()));
    assert_eq!(edge.holding().layers(edge.hyperparameters()).count(), 26);
    assert_eq!(cloud.holding().layers(cloud.hyperparameters()).count(), 20);
    let whole = model.gguf().bytes().len();
    assert!(edge.gguf().bytes().len() < whole && cloud.gguf().bytes().len() < edge.gguf().bytes().len());
}

#[test]
fn presets_fit_their_models() {
    for alias in Alias::ALL {
        let preset = alias.preset();
        assert!(preset.tail.is_sorted() && preset.tail[0] == preset.upload_at, "{}", alias.name());
    }
    assert!(matches!(open(Alias::SmolLm2_135m).holding(), Holding::Whole));
}

#[test]
fn the_default_model_has_its_chat_template() {
    let model = open(Alias::SmolLm2_135m);
    let template = ChatTemplate::of_model(model.gguf()).unwrap().unwrap();
    assert_eq!(
        template.render(&[Message::new("user", "Hi.")]).unwrap(),
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n\
         <|im_start|>user\nHi.<|im_end|>\n<|im_start|>assistant\n"
    );
}
