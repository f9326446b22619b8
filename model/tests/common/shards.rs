//! A model folder in the published layout, with its weights split over several files.

use std::collections::BTreeMap;
use std::path::Path;

use demask_api::BackboneConfig;
use demask_model::weights::safetensors;
use tch::Tensor;

/// Returns the name of weights file `number` (from 0) of `count`.
pub fn name(number: usize, count: usize) -> String {
    format!("model-{:05}-of-{count:05}.safetensors", number + 1)
}

/// Writes `config.json`, `count` safetensors files and their index. Each file holds every `count`-th tensor.
pub fn write(dir: &Path, config: &BackboneConfig, tensors: &BTreeMap<String, Tensor>, count: usize) {
    let text = serde_json::to_string(config).unwrap();
    std::fs::write(dir.join("config.json"), text).unwrap();
    let mut weight_map = BTreeMap::new();
    for number in 0..count {
        let part: BTreeMap<String, Tensor> = tensors
            .iter()
            .skip(number)
            .step_by(count)
            .map(|(name, tensor)| (name.clone(), tensor.shallow_clone()))
            .collect();
        weight_map.extend(part.keys().map(|tensor| (tensor.clone(), name(number, count))));
        safetensors::write(&dir.join(name(number, count)), &part, None).unwrap();
    }
    let index = serde_json::json!({"metadata": {"total_size": 0}, "weight_map": weight_map});
    std::fs::write(dir.join("model.safetensors.index.json"), index.to_string()).unwrap();
}
