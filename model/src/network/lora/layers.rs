//! The linear layers of a backbone's blocks, and which of them an adapter adapts.

use std::collections::BTreeSet;

use demask_api::{BackboneConfig, LINEAR_LAYERS};

use crate::network::slots::is_block_layer;
use crate::weights::peft::tensor_name;
use crate::weights::slot::Slot;

/// A linear layer of a block.
pub(super) struct Layer {
    pub(super) module: String,
    /// The first module of the product that the layer belongs to.
    pub(super) product: String,
    pub(super) ins: i64,
    pub(super) outs: i64,
}

/// Returns the linear layers of all blocks, in the order of their products.
pub(super) fn layers(config: &BackboneConfig) -> Vec<Layer> {
    let mut layers: Vec<Layer> = Vec::new();
    for slot in crate::network::slots::slots(config) {
        let Some(module) = slot.name.strip_suffix(".weight") else {
            continue;
        };
        if !is_block_layer(&slot) {
            continue;
        }
        let product = match layers.last().filter(|_| slot.stacked) {
            Some(before) => before.product.clone(),
            None => module.to_owned(),
        };
        layers.push(Layer {
            module: module.to_owned(),
            product,
            ins: slot.shape[1],
            outs: slot.shape[0],
        });
    }
    layers
}

/// Returns the slots of A and B of the adapted modules.
pub(super) fn slots(layers: &[Layer], modules: &BTreeSet<&str>, rank: usize) -> Vec<Slot> {
    let rank = rank as i64;
    let adapted = layers
        .iter()
        .filter(|layer| modules.contains(layer.module.as_str()));
    adapted
        .flat_map(|layer| {
            [
                Slot::new(tensor_name(&layer.module, 'A'), &[rank, layer.ins]),
                Slot::new(tensor_name(&layer.module, 'B'), &[layer.outs, rank]),
            ]
        })
        .collect()
}

/// Returns the last parts of the modules' names if each of these is adapted in every block, and the full
/// names otherwise.
pub(super) fn targets(layers: &[Layer], modules: &BTreeSet<&str>) -> Vec<String> {
    let end = |module: &str| module.rsplit('.').next().unwrap_or_default().to_owned();
    let ends: BTreeSet<String> = modules.iter().map(|module| end(module)).collect();
    let meant = layers.iter().filter(|layer| ends.contains(&end(&layer.module)));
    if meant.count() == modules.len() {
        return LINEAR_LAYERS
            .map(str::to_owned)
            .into_iter()
            .filter(|name| ends.contains(name))
            .collect();
    }
    modules.iter().map(|&module| module.to_owned()).collect()
}
