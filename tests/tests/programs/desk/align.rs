//! UniGRPO on a user's folder of pictures, with a reward in a few lines of Python.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};

use demask_tests::profile::smoke_with_stages;
use demask_tests::store::rows_as_json;
use demask_tests::{Place, said};
use serde_json::json;

/// The redness of a drawing, in plain Python: the PNG is decoded with the standard library.
const REDNESS: &str = r#"
import base64, json, struct, sys, zlib

def redness(png):
    at, data = 8, b""
    while at < len(png):
        length, kind = struct.unpack(">I4s", png[at:at + 8])
        if kind == b"IDAT":
            data += png[at + 8:at + 8 + length]
        at += 12 + length
    return (sum(zlib.decompress(data)[1::3]) % 256) / 255

for line in sys.stdin:
    batch = json.loads(line)
    values = [redness(base64.b64decode(item["picture"])) for item in batch["items"]]
    print(json.dumps({"batch": batch["batch"], "values": values}), flush=True)
"#;

/// Writes a folder of six pictures, each with its caption beside it.
pub fn stripes(place: &Path) -> PathBuf {
    let folder = place.join("stripes");
    fs::create_dir(&folder).unwrap();
    for number in 0..6u8 {
        let picture =
            image::RgbImage::from_fn(32, 32, |x, _| image::Rgb([number * 40, (x * 8) as u8, number]));
        picture.save(folder.join(format!("{number}.png"))).unwrap();
        let words = format!("a stripe of {number}");
        fs::write(folder.join(format!("{number}.txt")), words).unwrap();
    }
    folder
}

/// UniGRPO runs on a user's pictures and captions with a reward in Python. Every drawing is scored within
/// the range, and drawings and scores are recorded.
#[test]
fn a_folder_of_pictures_is_aligned_on_with_a_reward_in_python() {
    let place = Place::default();
    let folder = stripes(place.path());
    fs::write(place.path().join("redness.py"), REDNESS).unwrap();
    let profile = place.path().join("own.toml");
    let text = smoke_with_stages(&format!(
        "[limits]\nnear_duplicate = 2.0\n[[source]]\nname = \"stripes\"\nkind = \"image_folder\"\npath = {folder:?}\n\
         [[reward]]\nname = \"redness\"\ncommand = [\"python3\", \"redness.py\"]\nfolder = {:?}\nrange = [0, 1]\n\
         tasks = [\"text_to_image\"]\npicture = \"base64\"\n\
         [[stage]]\nname = \"codes\"\nkind = \"tokenizer\"\nbatch = 4\n\
         [[stage]]\nname = \"unigrpo\"\nkind = \"align\"\nsteps = 2\nbatch = 2\ngroup = 3\nsources = [\"stripes\"]\n",
        place.path().to_str().unwrap()
    ));
    fs::write(&profile, text).unwrap();
    let checked = place.run(&["profile", "check", profile.to_str().unwrap()]);
    assert!(checked.status.success(), "{}", said(&checked));
    let out = place.run_profile(&profile);
    assert!(out.status.success(), "{}", said(&out));
    // The run also asks for captions of pictures, to which this reward does not apply.
    let judged = "SELECT count(*) > 0 AS some, min(value BETWEEN 0 AND 1) AS fits, \
                  count(*) = (SELECT count(*) FROM v_rollout WHERE modality = 'draw') AS every \
                  FROM v_reward WHERE name = 'redness'";
    assert_eq!(
        rows_as_json(&place, judged),
        json!([{"some": 1, "fits": 1, "every": 1}])
    );
    let drawn = "SELECT min(prompt LIKE 'a stripe of%') AS own, min(picture IS NOT NULL) AS kept FROM v_rollout \
                 WHERE modality = 'draw'";
    assert_eq!(rows_as_json(&place, drawn), json!([{"own": 1, "kept": 1}]));
    let measured = "SELECT count(*) > 0 AS some FROM v_metric WHERE name = 'reward_part/redness'";
    assert_eq!(rows_as_json(&place, measured), json!([{"some": 1}]));
    assert!(place.run(&["daemon", "stop"]).status.success());
}
