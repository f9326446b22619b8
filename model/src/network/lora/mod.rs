//! Low-rank adapters (LoRA, arXiv 2106.09685): trained beside frozen weights, saved in PEFT's layout, and
//! merged.
//!
//! - `making.rs`: fresh adapters, and their files; `layers.rs`: the layers that one adapts;
//! - `product.rs`: the product of A and B; `dropout.rs`: the masks of a training step.

mod dropout;
mod layers;
mod making;
mod product;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use demask_api::LoraConfig;

use crate::error::Result;
use crate::weights::parameters::Parameters;
use crate::weights::peft::tensor_name;

pub(crate) use dropout::DropoutPosition;
use layers::{Layer, targets};

/// An adapter on the linear layers of a backbone.
#[derive(Debug)]
pub struct Lora {
    config: LoraConfig,
    /// The base's name in the saved configuration.
    base: String,
    /// The adapted modules as the saved configuration lists them.
    targets: Vec<String>,
    parameters: Parameters,
    /// The backbone's products that the adapter changes, by name, each with its layers and their A and B.
    products: BTreeMap<String, Vec<AdapterPart>>,
    /// The dropout of the present step.
    noise: Cell<Option<DropoutPosition>>,
}

/// One linear layer of a product.
#[derive(Clone, Debug)]
struct AdapterPart {
    module: String,
    outs: i64,
    /// The names of A and B, if the layer is adapted.
    adapted: Option<(String, String)>,
}

impl Lora {
    fn assemble(
        config: LoraConfig,
        base: String,
        layers: &[Layer],
        modules: &BTreeSet<&str>,
        parameters: Parameters,
    ) -> Self {
        let mut products: BTreeMap<String, Vec<AdapterPart>> = BTreeMap::new();
        for layer in layers {
            let names = || (tensor_name(&layer.module, 'A'), tensor_name(&layer.module, 'B'));
            products
                .entry(layer.product.clone())
                .or_default()
                .push(AdapterPart {
                    module: layer.module.clone(),
                    outs: layer.outs,
                    adapted: modules.contains(layer.module.as_str()).then(names),
                });
        }
        products.retain(|_, parts| parts.iter().any(|part| part.adapted.is_some()));
        Self {
            config,
            base,
            targets: targets(layers, modules),
            parameters,
            products,
            noise: Cell::new(None),
        }
    }

    /// Returns the rank, the scale and the dropout.
    #[must_use]
    pub fn config(&self) -> &LoraConfig {
        &self.config
    }

    /// Returns A and B of every adapted layer.
    #[must_use]
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Returns the parameters mutably, for an optimizer.
    pub fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.parameters
    }

    /// Returns whether the adapter adapts a layer of the named product.
    #[must_use]
    pub fn adapts(&self, product: &str) -> bool {
        self.products.contains_key(product)
    }

    /// Returns an adapter that shares the values and has gradients of its own, without dropout. This adapter
    /// does not change.
    ///
    /// # Errors
    /// Returns libtorch's errors.
    pub fn twin(&self) -> Result<Self> {
        Ok(self.with(self.parameters.twin()?))
    }

    /// Copies the adapter for sampling; later changes of this adapter do not affect the copy.
    ///
    /// # Errors
    /// Returns libtorch's errors.
    pub fn frozen_copy(&self) -> Result<Self> {
        Ok(self.with(self.parameters.frozen_copy()?))
    }

    fn with(&self, parameters: Parameters) -> Self {
        Self {
            config: self.config.clone(),
            base: self.base.clone(),
            targets: self.targets.clone(),
            parameters,
            products: self.products.clone(),
            noise: Cell::new(None),
        }
    }
}
