//! A user's own data through the built programs: conversations to train on, and tar shards of pictures streamed through
//! a kill.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use demask_storage::{Command as Ask, Record, RunState};
use demask_tests::store::rows_as_json;
use demask_tests::weights::{last_checkpoint, weights_hash};
use demask_tests::{Place, programs, start, wait_for};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::json;

/// A tiny model that learns nothing, in seconds.
const MODEL: &str = r#"
seed = 5
text_vocabulary = 400
pixels = 32

[engine]
device = "cpu"
dtype = "f32"
threads = 1

[model]
d_model = 32
n_heads = 2
n_layers = 1
mlp_hidden_size = 64
max_sequence_length = 256

[image_tokenizer]
codebook_bits = 6
norm_groups = 2
encoder = { ch = 4, ch_mult = [1, 1, 1, 1], num_res_blocks = [1, 1, 1, 1], resolution = 32, z_channels = 6 }
decoder = { ch = 4, ch_mult = [1, 1, 1, 1], num_res_blocks = [1, 1, 1, 1], resolution = 32, z_channels = 6 }

[budgets]
text_to_image = { prompt = 40, answer = 0, direct_answer = 0, codes = 16 }
text = { prompt = 200, answer = 40, direct_answer = 8, codes = 0 }
understand = { prompt = 64, answer = 40, direct_answer = 20, codes = 16 }
think_then_draw = { prompt = 24, answer = 16, direct_answer = 16, codes = 16 }

[checkpoint]
every_steps = 2
keep = 2
"#;

/// Conversations in compressed shards are read in order and trained on, with a memory limit of zero, so that
/// every row is read again from disk. Each of the 24 conversations yields two examples, and the lineage has
/// one row per trained sequence.
#[test]
fn conversations_of_packed_shards_are_trained_on() {
    let place = Place::default();
    let words = ["ants", "bees", "cats", "dogs", "eels", "foxes"];
    let talk = |at: usize| {
        let word = words[at % words.len()];
        json!({"messages": [
            {"role": "system", "content": format!("You speak of {word} and of {at}.")},
            {"role": "user", "content": format!("How many {word} are {at} {word}?")},
            {"role": "assistant", "content": format!("They are {at} {word}.")},
            {"role": "user", "content": "Say it shorter."},
            {"role": "assistant", "content": at.to_string()},
        ]})
    };
    for shard in 0..2 {
        let lines: String = (0..12)
            .map(|row| format!("{}\n", talk(shard * 12 + row)))
            .collect();
        let packed = zstd::encode_all(lines.as_bytes(), 1).unwrap();
        fs::write(place.path().join(format!("talks-{shard:02}.jsonl.zst")), packed).unwrap();
    }
    let profile = place.path().join("own.toml");
    let shards = place.path().join("talks-{00..01}.jsonl.zst");
    let text = format!(
        "name = \"talks\"\n{MODEL}\n[limits]\nsource_memory = 0\nnear_duplicate = 2.0\n[[source]]\nname = \"talks\"\nkind = \"jsonl\"\n\
         path = {:?}\n[[stage]]\nname = \"sft\"\nkind = \"finetune\"\nsteps = 3\nbatch = 6\n",
        shards.to_str().unwrap()
    );
    fs::write(&profile, text).unwrap();
    let out = place.run_profile(&profile);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
    let kept = rows_as_json(
        &place,
        "SELECT passed FROM v_funnel WHERE source = 'talks' AND gate = 'accept'",
    );
    assert_eq!(kept, json!([{"passed": 48}]));
    let named = rows_as_json(
        &place,
        "SELECT count(*) AS n FROM v_lineage WHERE source = 'talks'",
    );
    assert_eq!(named, json!([{"n": 18}]));
    assert!(place.run(&["daemon", "stop"]).status.success());
}

/// Writes a Parquet file with a column `messages`, a list of structs as the `datasets` library writes it: one question
/// and answer per row.
fn write_talks(path: &Path, rows: usize) {
    let schema =
        "message schema { OPTIONAL GROUP messages (LIST) { REPEATED GROUP list { OPTIONAL GROUP element {
        OPTIONAL BYTE_ARRAY role (UTF8); OPTIONAL BYTE_ARRAY content (UTF8); } } } }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let file = fs::File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let said = |row: usize| {
        [
            format!("How many are {row} and 2?"),
            format!("They are {}.", row + 2),
        ]
    };
    let columns = [
        (0..rows)
            .flat_map(|_| ["user".to_owned(), "assistant".to_owned()])
            .collect::<Vec<_>>(),
        (0..rows).flat_map(said).collect(),
    ];
    for words in columns {
        let words: Vec<ByteArray> = words.iter().map(|word| ByteArray::from(word.as_str())).collect();
        let continues: Vec<i16> = (0..rows).flat_map(|_| [0, 1]).collect();
        let mut column = group.next_column().unwrap().unwrap();
        let values = column.typed::<ByteArrayType>();
        values
            .write_batch(&words, Some(&vec![4; 2 * rows]), Some(&continues))
            .unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
}

#[test]
fn a_parquet_file_of_messages_is_fine_tuned_on() {
    let place = Place::default();
    let talks = place.path().join("talks.parquet");
    write_talks(&talks, 20);
    let profile = place.path().join("own.toml");
    let text = format!(
        "name = \"talks\"\n{MODEL}\n[limits]\nnear_duplicate = 2.0\n[[source]]\nname = \"talks\"\nkind = \"parquet\"\n\
         path = {talks:?}\n[[stage]]\nname = \"sft\"\nkind = \"finetune\"\nsteps = 3\nbatch = 6\n"
    );
    fs::write(&profile, text).unwrap();
    let out = place.run_profile(&profile);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
    let kept = "SELECT passed FROM v_funnel WHERE source = 'talks' AND gate = 'accept'";
    assert_eq!(rows_as_json(&place, kept), json!([{"passed": 20}]));
    // L5: the lineage of what was trained on names its row.
    let named = "SELECT count(*) AS n, count(DISTINCT step) AS steps, min(place LIKE '%talks.parquet:%') AS placed \
                 FROM v_lineage WHERE source = 'talks'";
    assert_eq!(
        rows_as_json(&place, named),
        json!([{"n": 18, "steps": 3, "placed": 1}])
    );
    assert!(place.run(&["daemon", "stop"]).status.success());
}

/// L9: a file that unpacks to more memory than the daemon may use is a bad row of its source, and the run goes on.
#[test]
fn l9_a_parquet_file_that_unpacks_without_end_is_a_bad_row_of_the_run() {
    let place = Place::default();
    let folder = place.path().join("talks");
    fs::create_dir(&folder).unwrap();
    super::hostile_parquet::write_unpacking_row(&folder.join("a.parquet"));
    write_talks(&folder.join("b.parquet"), 20);
    let profile = place.path().join("own.toml");
    let text = format!(
        "name = \"talks\"\n{MODEL}\n[limits]\nnear_duplicate = 2.0\n[[source]]\nname = \"talks\"\nkind = \"parquet\"\n\
         path = {folder:?}\n[[stage]]\nname = \"sft\"\nkind = \"finetune\"\nsteps = 3\nbatch = 6\n"
    );
    fs::write(&profile, text).unwrap();
    let out = place.run_profile(&profile);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
    let funnel = "SELECT sum(passed) AS kept, sum(rejected) AS bad FROM v_funnel WHERE source = 'talks' \
                  AND (gate = 'accept' OR gate = 'parse' AND reason LIKE '%more than 2048 MiB of memory')";
    assert_eq!(rows_as_json(&place, funnel), json!([{"kept": 20, "bad": 1}]));
    assert!(place.run(&["daemon", "stop"]).status.success());
}

/// An upgrade replaces the program of a daemon that runs, which goes on with its own.
#[test]
fn a_parquet_file_is_read_although_the_program_was_removed() {
    let place = Place::default();
    let talks = place.path().join("talks.parquet");
    write_talks(&talks, 20);
    // Beside the program, because a link does not lead to another file system.
    let program = programs().join(format!("demask-{}", std::process::id()));
    fs::hard_link(programs().join("demask"), &program).unwrap();
    let mut command = Command::new(&program);
    command.arg("--home").arg(place.path());
    command.args(["profile", "check", "/dev/stdin", "--from-scratch", "--json"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let started = command.spawn();
    fs::remove_file(&program).unwrap();
    let mut checked = started.unwrap();
    let text = format!(
        "name = \"talks\"\n{MODEL}\n[limits]\nnear_duplicate = 2.0\n[[source]]\nname = \"talks\"\nkind = \"parquet\"\n\
         path = {talks:?}\n[[stage]]\nname = \"sft\"\nkind = \"finetune\"\nsteps = 3\nbatch = 6\n"
    );
    checked.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let out = checked.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success() && said.contains("talks"), "{said}");
}

#[test]
fn alignment_on_pictures_that_nothing_can_judge_is_refused_before_it_begins() {
    let place = Place::default();
    let folder = super::align::stripes(place.path());
    let profile = place.path().join("own.toml");
    let text = format!(
        "name = \"stripes\"\n{MODEL}\n[limits]\nnear_duplicate = 2.0\n[[source]]\nname = \"stripes\"\nkind = \"image_folder\"\n\
         path = {folder:?}\n[[stage]]\nname = \"unigrpo\"\nkind = \"align\"\nsteps = 1\nbatch = 2\ngroup = 2\n"
    );
    fs::write(&profile, text).unwrap();
    let out = place.run_profile(&profile);
    let said = String::from_utf8_lossy(&out.stdout);
    assert_eq!(out.status.code(), Some(1), "{said}");
    for word in [
        "stage unigrpo: none of the weighted rewards can judge its sources",
        "stripes (image_folder) by clip, image_reward",
        "[reward_networks]",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let steps = rows_as_json(&place, "SELECT count(*) AS n FROM v_metric");
    assert_eq!(steps, json!([{"n": 0}]));
    assert!(place.run(&["daemon", "stop"]).status.success());
}

/// Makes a POSIX tar header for a member's name and size.
fn header(name: &str, size: usize) -> [u8; 512] {
    let mut block = [0; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..107].copy_from_slice(b"0000644");
    block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    block[156] = b'0';
    block[257..263].copy_from_slice(b"ustar\0");
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    block
}

/// Writes shards of pictures with captions.
fn write_shards(folder: &Path) -> PathBuf {
    for shard in 0..3 {
        let mut tar = Vec::new();
        for number in 0..8u8 {
            let red = shard * 80 + number * 9;
            let mut png = std::io::Cursor::new(Vec::new());
            image::RgbImage::from_fn(32, 32, |x, _| image::Rgb([red, (x * 8) as u8, number]))
                .write_to(&mut png, image::ImageFormat::Png)
                .unwrap();
            let caption = format!("a stripe of {shard} and {number}").into_bytes();
            for (ending, bytes) in [("png", png.into_inner()), ("txt", caption)] {
                tar.extend(header(&format!("{number:03}.{ending}"), bytes.len()));
                tar.extend(&bytes);
                tar.resize(tar.len().next_multiple_of(512), 0);
            }
        }
        tar.resize(tar.len() + 1024, 0);
        fs::write(folder.join(format!("stripes-{shard:04}.tar")), tar).unwrap();
    }
    folder.join("stripes-{0000..0002}.tar")
}

async fn trained(profile: &str, kills: u32) -> String {
    let mut place = Place::default();
    let mut client = place.serve().await;
    client.ask(Ask::Subscribe { since: 0 }).await.unwrap();
    let run = start(&mut client, profile).await;
    for _ in 0..kills {
        wait_for(&mut client, |record| matches!(record, Record::Checkpoint(_))).await;
        place.kill();
        client = place.serve().await;
        client.ask(Ask::Subscribe { since: 0 }).await.unwrap();
    }
    let end = wait_for(&mut client, |record| matches!(record, Record::RunEnd(_))).await;
    let record = end.unwrap().record;
    assert!(
        matches!(&record, Record::RunEnd(end) if end.status == RunState::Done),
        "{record:?}"
    );
    assert_eq!(place.terminate(), Some(0));
    weights_hash(&last_checkpoint(place.path(), &run))
}

#[tokio::test]
async fn l8_shards_streamed_through_kills_give_the_weights_of_an_uninterrupted_run() {
    let folder = tempfile::tempdir().unwrap();
    let shards = write_shards(folder.path());
    let source = |memory: usize| {
        format!(
            "name = \"shards\"\n{MODEL}\n[limits]\nsource_memory = {memory}\n[[source]]\nname = \"stripes\"\nkind = \"webdataset\"\n\
             path = {:?}\n[[stage]]\nname = \"codes\"\nkind = \"tokenizer\"\nsteps = 2\nbatch = 2\n[[stage]]\nname = \"draw\"\n\
             kind = \"pretrain\"\nsteps = 6\nbatch = 4\n",
            shards.to_str().unwrap()
        )
    };
    let whole = trained(&source(256), 0).await;
    assert_eq!(trained(&source(0), 2).await, whole);
}
