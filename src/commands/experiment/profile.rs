//! `demask profile`: lists and shows profiles, describes every key, and checks whether a profile would run.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use demask_actors::pipeline::curation::dry_run::{self, DryRun, SourceReport};
use demask_actors::pipeline::external_rewards::RewardTrial;
use demask_actors::profile::Profile;
use demask_actors::profile::schema::{self, Key};
use demask_actors::profile::shipped;

use super::request::{anchored, usage};
use crate::args;
use crate::terminal::print;

/// Runs the subcommand of `demask profile`.
///
/// # Errors
/// An error if the profile does not exist or is wrong, or if a file cannot be written.
pub fn profile(options: args::ProfileCommand) -> anyhow::Result<ExitCode> {
    match options {
        args::ProfileCommand::List(output) => list(output.json)?,
        args::ProfileCommand::Show { name, output } => show(&name, output.json)?,
        args::ProfileCommand::Init { output, from } => init(&output, &from)?,
        args::ProfileCommand::Check(options) => return check(&options),
        args::ProfileCommand::Schema {
            table,
            markdown,
            json,
        } => print_schema(table.as_deref(), markdown, json)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn read(name: &str) -> anyhow::Result<Profile> {
    let (text, origin) = Profile::find(name).map_err(usage)?;
    Ok(Profile::parse(&text, &origin).map_err(usage)?)
}

fn list(json: bool) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    let mut objects = Vec::new();
    for shipped in shipped::all() {
        let profile = shipped.profile()?;
        let stages: Vec<&str> = profile.stages.iter().map(|stage| stage.kind.word()).collect();
        let sources: Vec<&str> = profile
            .sources
            .iter()
            .map(|source| source.name.as_str())
            .collect();
        let about = shipped.about();
        rows.push(vec![
            shipped.name.to_owned(),
            stages.join(", "),
            sources.join(", "),
            about.clone(),
        ]);
        objects.push(
            serde_json::json!({ "name": shipped.name, "about": about, "stages": stages, "sources": sources }),
        );
    }
    if json {
        return print::json(&objects);
    }
    print::table(&["name", "stages", "sources", "what it does"], &rows)
}

fn show(name: &str, json: bool) -> anyhow::Result<()> {
    let profile = read(name)?;
    if json {
        return print::json(&profile);
    }
    write(&profile.to_commented_toml()?)
}

/// Writes the profile under the file's name. An existing file is left as it is.
fn init(output: &Path, from: &str) -> anyhow::Result<()> {
    let mut profile = read(from)?;
    if let Some(name) = output.file_stem().and_then(|name| name.to_str()) {
        name.clone_into(&mut profile.name);
    }
    let text = format!(
        "# A profile made from {from}. Each line says what its key means, its default and its range; a line may be left\n# out \
         where its value is the default. `demask profile check {}` is a dry run.\n{}",
        output.display(),
        profile.to_commented_toml()?
    );
    let mut file = File::create_new(output).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => usage(format!(
            "--output {}: the file exists already; name another one",
            output.display()
        ))
        .into(),
        _ => anyhow::Error::new(error).context(format!("--output {}", output.display())),
    })?;
    file.write_all(text.as_bytes())
        .with_context(|| format!("--output {}", output.display()))?;
    print::note(&format!("wrote {}", output.display()));
    Ok(())
}

fn print_schema(table: Option<&str>, markdown: bool, json: bool) -> anyhow::Result<()> {
    let keys = schema::keys();
    if let Some(prefix) = table {
        let rows: Vec<Vec<String>> = keys
            .iter()
            .filter(|key| key.path.starts_with(prefix))
            .map(cells)
            .collect();
        if rows.is_empty() {
            return Err(usage(format!(
                "--table {prefix}: no key begins with {prefix}; --table without a value prints all"
            ))
            .into());
        }
        return print::table(&HEAD, &rows);
    }
    if json {
        return print::json(&keys);
    }
    if !markdown {
        return print::json(schema::schema());
    }
    let row = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut text = row(&HEAD.map(str::to_owned));
    text += &row(&HEAD.map(|_| "---".to_owned()));
    for key in &keys {
        let escaped: Vec<String> = cells(key).iter().map(|cell| cell.replace('|', "\\|")).collect();
        text += &row(&escaped);
    }
    write(&text)
}

const HEAD: [&str; 5] = ["key", "type", "default", "range", "meaning"];

fn cells(key: &Key) -> Vec<String> {
    let meaning = if key.alternative.is_empty() {
        key.sentence().to_owned()
    } else {
        format!("{} (where {})", key.sentence(), key.alternative)
    };
    vec![
        key.path.clone(),
        key.kind.clone(),
        key.default.clone(),
        key.range.clone(),
        meaning,
    ]
}

fn check(options: &args::CheckArgs) -> anyhow::Result<ExitCode> {
    let asked = &options.profile;
    let (profile, origin) = anchored(&asked.name, &asked.set, asked.from_scratch)?;
    let found = dry_run::dry_run(&profile);
    if options.output.json {
        print::json(&found)?;
    } else {
        tell(&found)?;
    }
    if let Some(first) = found.problems.first() {
        anyhow::bail!("{origin}: the run would fail: {first}");
    }
    Ok(ExitCode::SUCCESS)
}

fn tell(found: &DryRun) -> anyhow::Result<()> {
    let number = |number: Option<u64>| number.map_or_else(|| "generated".to_owned(), |n| n.to_string());
    let row = |source: &SourceReport| {
        let turned_away: u64 = source.turned_away.values().sum();
        vec![
            source.name.clone(),
            source.kind.clone(),
            number(source.rows),
            number(source.kept),
            turned_away.to_string(),
            source.stages.join(", "),
            source.rewards.join(", "),
            source.benchmarks.join(", "),
        ]
    };
    let rows: Vec<Vec<String>> = found.sources.iter().map(row).collect();
    print::table(
        &[
            "source",
            "kind",
            "rows",
            "examples",
            "rejected",
            "stages",
            "rewards",
            "benchmarks",
        ],
        &rows,
    )?;
    let mut text = String::new();
    for source in &found.sources {
        for (reason, count) in &source.turned_away {
            text += &format!("{}: {count} rejected: {reason}\n", source.name);
        }
    }
    for trial in &found.external_rewards {
        text += &tried(trial);
    }
    for problem in &found.problems {
        text += &format!("problem: {problem}\n");
    }
    for note in &found.notes {
        text += &format!("note: {note}\n");
    }
    if found.problems.is_empty() {
        text += "the run can start\n";
    }
    print::say(text.trim_end_matches('\n'));
    Ok(())
}

/// Formats the result of an external reward's trial as a line; empty if it was not asked or failed, which is reported
/// separately.
fn tried(trial: &RewardTrial) -> String {
    let Some(source) = trial.source.as_ref().filter(|_| trial.failure.is_none()) else {
        return String::new();
    };
    let value = match trial.value {
        Some(value) => format!("gives {value}"),
        None => "gives no value".to_owned(),
    };
    let parts: String = trial
        .parts
        .iter()
        .map(|(name, number)| format!(", {name} {number}"))
        .collect();
    let short = |text: &str| text.chars().take(60).collect::<String>();
    format!(
        "reward {} {value}{parts} for the right answer '{}' to '{}' (source {source})\n",
        trial.name,
        short(&trial.answer),
        short(&trial.prompt)
    )
}

fn write(text: &str) -> anyhow::Result<()> {
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}
