//! Fitted exits from a file: they say where to cut, end up in the edge part, and are shown.

use collm_core::{confidence::ConfidenceMeasure, policy::Threshold};
use collm_model::{
    Alias, ExitNumber,
    exits::{ExitsDraft, FittedCut},
    gguf::TensorType,
};
use serde_json::{Value, json};

use crate::harness::{MODEL, Parts, run_err, run_ok};

const WIDTH: usize = 576;

/// A file as fitting would make it, for a tail of one layer.
fn write(path: &str, upload_at: u32) {
    let source_sha256 = Alias::SmolLm2_135m.digest();
    let cut = FittedCut { source_sha256, upload_at, tail: vec![29], exit1: false, tail_type: Some(TensorType::Q8_0) };
    let mut draft = ExitsDraft::new(cut);
    let (a, b) = (vec![0.01; WIDTH * 32], vec![0.01; 32 * WIDTH]);
    draft
        .set_delta(0, "attn_q.weight", 32, [(&a, TensorType::Q8_0), (&b, TensorType::Q8_0)])
        .expect("a delta of rank 32");
    draft.set_head_vector(ExitNumber::Two, "norm.weight", &[1.0; WIDTH]);
    let exit = draft.exit_mut(ExitNumber::Two);
    exit.measure = ConfidenceMeasure::Margin;
    exit.threshold = Threshold::new(0.5);
    exit.promise.0 = [("target".to_owned(), 0.97), ("coverage".to_owned(), 0.5)].into();
    let factor = vec![0.01; WIDTH * 32];
    let factors = [&factor[..]; 2];
    draft.set_shortlist(ExitNumber::Two, 1000, WIDTH, factors, TensorType::Q8_0).expect("a shortlist of rank 32");
    draft.write(path.as_ref()).expect("the draft makes sense");
}

fn inspect(file: &str) -> Value {
    serde_json::from_str(&run_ok(&["inspect", file, "--json"])).expect("JSON")
}

#[test]
fn an_exits_file_is_all_that_a_split_needs() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("model.exits.gguf").display().to_string();
    write(&file, 8);
    let parts = Parts::split_with(&["--exits", &file]);

    let (fitted, edge, cloud) = (inspect(&file), inspect(&parts.edge()), inspect(&parts.cloud()));
    assert_eq!((&fitted["role"], &fitted["deltas"]), (&json!("exits"), &json!(1)));
    for described in [&fitted, &edge] {
        assert_eq!((&described["upload_at"], &described["tail"]), (&json!(8), &json!("29")));
        let exit = &described["exits"][1];
        assert_eq!((&exit["confidence"], &exit["shortlist"]), (&json!("margin"), &json!(1000)));
        assert_eq!((&exit["threshold"], &exit["promise"]["target"]), (&json!(0.5), &json!(0.97)));
        assert_eq!((&exit["on"], &exit["fitted_head"]), (&json!(true), &json!(true)));
    }
    assert_eq!(cloud["exits"], json!([]));
    assert_eq!(edge["pair"], inspect(&Parts::split_with(&["--upload-at", "8", "--tail", "9"]).cloud())["pair"]);

    for shown in [run_ok(&["inspect", &file]), run_ok(&["inspect", &parts.edge()])] {
        let promise = "threshold 0.500 for 97.0 % agreement at 50.0 % coverage";
        assert!(shown.contains(promise) && shown.contains("shortlists of 1000 tokens"), "{shown}");
    }
}

#[test]
fn exits_for_another_cut_or_of_another_kind_are_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (file, out, no_exits) = (path("model.exits.gguf"), path("out"), path("no.gguf"));
    write(&file, 8);
    std::fs::write(&no_exits, b"GGUF").expect("the folder is writable");
    for (options, expected) in [
        (&["--exits", &file, "--upload-at", "9", "--tail", "29"][..], "fitted to an upload at layer 8 and the tail 29"),
        (&["--exits", &no_exits], "no.gguf is not a usable gguf file"),
        (&["--exits", &path("nowhere")], "cannot read"),
    ] {
        let (message, code) = run_err(&[&["split", MODEL, "--out", &out], options].concat());
        assert!(message.contains(expected) && code == 1, "{options:?}: {message}");
    }
    let (message, code) = run_err(&["run", "hi", "--model", MODEL, "--exits", &file]);
    assert!(message.contains("a whole model has no exits") && code == 2, "{message}");
}

#[test]
fn exits_can_be_turned_off() {
    let parts = Parts::split_with(&["--exits", "none"]);
    let edge = inspect(&parts.edge());
    assert_eq!((&edge["exits_sha256"], &edge["upload_at"]), (&Value::Null, &json!(10)));
}
