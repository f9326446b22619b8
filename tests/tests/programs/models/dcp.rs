//! PyTorch's distributed checkpoints read what ranks saved. Skipped without PyTorch and safetensors ($PYTHON, else
//! python3).
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;
use std::process::{Command, Output};

use demask_storage::RunState;
use demask_tests::profile::smoke;
use demask_tests::weights::last_checkpoint;
use demask_tests::{Place, ended, start, subscribed};

/// Loads a folder by `dcp.load` into zeros, and compares the result with the files.
const LOAD: &str = r"
import glob, sys, torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import HuggingFaceStorageReader
from safetensors.torch import load_file
folder = sys.argv[1]
known = HuggingFaceStorageReader(folder).read_metadata().state_dict_metadata
read = {name: torch.zeros(one.size, dtype=one.properties.dtype) for name, one in known.items()}
dcp.load(read, storage_reader=HuggingFaceStorageReader(folder))
written = {}
for path in glob.glob(folder + '/*.safetensors'):
    written.update(load_file(path))
assert read.keys() == written.keys(), (read.keys(), written.keys())
assert all(torch.equal(read[name], written[name]) for name in written)
print(len(read), 'equal', sum(float(one.abs().sum()) > 0 for one in read.values()), 'not zero')
";

fn python(arguments: &[&str]) -> std::io::Result<Output> {
    let program = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
    Command::new(program).args(arguments).output()
}

/// Returns the numbers that the script printed: of tensors, and of those that are not zero.
fn loaded(folder: &Path) -> (usize, usize) {
    let output = python(&["-W", "ignore", "-c", LOAD, folder.to_str().unwrap()]).unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let numbers: Vec<usize> = said.split(' ').filter_map(|word| word.parse().ok()).collect();
    (numbers[0], numbers[1])
}

#[tokio::test]
async fn pytorch_loads_the_checkpoint_of_two_ranks() {
    let there = python(&[
        "-c",
        "import safetensors; from torch.distributed.checkpoint import HuggingFaceStorageReader",
    ]);
    if !there.is_ok_and(|output| output.status.success()) {
        eprintln!("left out: no Python with PyTorch and safetensors; PYTHON names one");
        return;
    }
    let mut place = Place::default();
    let mut client = subscribed(&mut place).await;
    let run = start(
        &mut client,
        &smoke(&["engine.ranks=2", "engine.shard=weights", "stage.1.steps=2"]),
    )
    .await;
    assert_eq!(ended(&mut client).await, RunState::Done);
    let folder = last_checkpoint(place.path(), &run);
    // Weights, two moments and more of the network and of the image tokenizer.
    let (tensors, not_zero) = loaded(&folder);
    assert!(tensors > 12 && not_zero > 12, "{tensors}, {not_zero}");
    assert!(loaded(&folder.join("image_tokenizer")).0 > 50);
}
