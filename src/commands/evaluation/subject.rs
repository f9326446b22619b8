//! The evaluation that an argument names: one of `demask eval`, or one of a run at a step.

use anyhow::{Context as _, bail};
use demask_actors::home::Home;
use demask_actors::run::named_checkpoint::NamedCheckpoint;
use demask_storage::{EvalItem, evaluations, runs::find, store};

/// An evaluation with its items.
#[derive(Debug)]
pub struct Subject {
    /// Id of the evaluation or of the run.
    pub run: String,
    /// Step of the run; 0 outside a run.
    pub step: u64,
    /// Items, by suite and number.
    pub items: Vec<EvalItem>,
}

impl Subject {
    /// Finds the evaluation or run whose id begins or ends with the name, or the run of that name; `latest` is the
    /// newest. `RUN@STEP` is a run's evaluation at that step, `RUN@best` that of its promoted checkpoint; without `@`
    /// it is the last.
    ///
    /// # Errors
    /// An error if there is no store, if none or several match, or if there is no item at that step.
    pub fn find(home: &Home, named: &str) -> anyhow::Result<Self> {
        let (name, place) = named.rsplit_once('@').unwrap_or((named, "latest"));
        let connection = store::open_read_only(&home.database())?;
        let mut found = evaluations::evaluated(&connection)?;
        if name == "latest" {
            found.truncate(1);
        } else {
            let of_that_name = find::named(&connection, name)?;
            found.retain(|(run, _)| match of_that_name.as_slice() {
                [] => !name.is_empty() && (run.starts_with(name) || run.ends_with(name)),
                runs => runs.contains(run),
            });
        }
        let (run, last) = match found.as_slice() {
            [one] => one.clone(),
            [] => bail!(
                "no evaluation with items has an id that begins or ends with '{name}'; `demask eval history` lists the evaluations"
            ),
            many => bail!(
                "{} evaluations have an id that begins or ends with '{name}'; give more of the id",
                many.len()
            ),
        };
        let at = match place {
            "latest" => None,
            "best" => Some(NamedCheckpoint::find(home, &format!("{run}@best"))?.of.step),
            step => Some(step.parse().with_context(|| {
                format!("{named}: expected RUN@STEP, with the number of a step, best or latest after the @")
            })?),
        };
        let step = at.unwrap_or(last);
        let items = evaluations::items(&connection, &run, step)?;
        if items.is_empty() {
            bail!(
                "{run} has no items of an evaluation at step {step}; `demask eval history` lists the evaluations"
            );
        }
        Ok(Self { run, step, items })
    }

    /// Returns the name by which a user refers to it.
    pub fn name(&self) -> String {
        match self.step {
            0 => self.run.clone(),
            step => format!("{}@{step}", self.run),
        }
    }
}
