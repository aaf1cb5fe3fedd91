//! What comes from the definition of the command line: completions for shells, and the pages of the manual.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::cluster::CHORUS;

/// What bash offers for the last of these words.
fn offered(words: &[&str]) -> BTreeSet<String> {
    let script = format!(
        "source <({CHORUS} completions bash) && COMP_WORDS=({}) && COMP_CWORD={} && \
         _chorus chorus '{}' '{}' && printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        words.join(" "),
        words.len() - 1,
        words[words.len() - 1],
        words[words.len() - 2],
    );
    let ended =
        Command::new("bash").args(["--norc", "--noprofile", "-c", &script]).output().expect("bash runs");
    good(&ended).lines().map(str::to_owned).collect()
}

/// What a command prints; it must succeed, and have nothing to say besides.
fn good(ended: &Output) -> String {
    let talk = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success() && talk.is_empty(), "{talk}");
    String::from_utf8(ended.stdout.clone()).expect("UTF-8")
}

fn chorus(arguments: &[&str]) -> String {
    good(&Command::new(CHORUS).args(arguments).output().expect("chorus runs"))
}

/// The verbs that `--help` lists below these words.
fn verbs(words: &[&str]) -> Vec<String> {
    let help = chorus(&[words, &["--help"]].concat());
    let listed = help.split("Commands:\n").nth(1).unwrap_or_default().lines();
    // What stands further right is the rest of a long sentence.
    let verbs = listed.take_while(|line| !line.is_empty()).filter_map(|line| {
        line.strip_prefix("  ").filter(|line| !line.starts_with(' '))?.split_whitespace().next()
    });
    verbs.filter(|verb| *verb != "help").map(str::to_owned).collect()
}

/// A help in one line, however it was broken.
fn help(words: &[&str]) -> String {
    chorus(&[words, &["--help"]].concat()).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn both_halves_of_the_control_key_say_what_it_is_for() {
    const SIGNED: [&[&str]; 10] = [
        &["trylead"],
        &["follow"],
        &["playdead"],
        &["revive"],
        &["shutdown"],
        &["members", "add"],
        &["members", "remove"],
        &["members", "replace"],
        &["key", "rotate"],
        &["key", "retire"],
    ];
    let node = help(&["node"]);
    let public = node.split("--control-pub <FILE> ").nth(1).expect("the flag is there");
    for verb in SIGNED {
        let own = help(verb);
        let private = own.split("--control-key <FILE> ").nth(1).expect("the flag is there");
        for half in [private, public] {
            let sentence = half.split(" --").next().expect("it begins");
            assert!(verb.iter().all(|word| sentence.contains(word)), "{verb:?} is missing: {sentence}");
        }
    }
}

#[test]
fn bash_completes_verbs_flags_and_values() {
    assert!(offered(&["chorus", "sta"]).contains("status"));
    let all = offered(&["chorus", "''"]);
    let lacking: Vec<_> = verbs(&[]).into_iter().filter(|verb| !all.contains(verb)).collect();
    assert!(lacking.is_empty(), "not offered: {lacking:?}");
    assert!(offered(&["chorus", "quote", "p"]).contains("post"), "the verbs of the boards too");
    assert!(offered(&["chorus", "status", "--wa"]).contains("--watch"));
    assert!(
        offered(&["chorus", "tap", "--message", "VOTE"]).is_superset(&BTreeSet::from(["VOTEME".to_owned()]))
    );
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        assert!(chorus(&["completions", shell]).contains("trylead"), "{shell}");
    }
}

#[test]
fn the_manual_has_a_page_for_each_verb_and_groff_finds_nothing_wrong() {
    let directory = tempfile::tempdir().expect("a directory");
    let place = directory.path().join("man1");
    assert!(chorus(&["man", place.to_str().expect("UTF-8")]).contains("chorus.1"));
    for verb in verbs(&[]) {
        page(&place, &format!("chorus-{verb}"));
        for below in verbs(&[&verb]) {
            page(&place, &format!("chorus-{verb}-{below}"));
        }
    }
    let first = page(&place, "chorus");
    assert!(first.contains("NAME") && first.contains("chorus-tap"), "{first}");
    for entry in fs::read_dir(&place).expect("pages") {
        let page = entry.expect("a page").path();
        let strict =
            Command::new("groff").args(["-Kutf8", "-man", "-Tutf8", "-ww", "-z"]).arg(&page).output();
        let said = good(&strict.expect("groff runs; install groff-base"));
        assert_eq!(said, "", "{}", page.display());
    }
}

/// A page as a terminal shows it.
fn page(place: &Path, name: &str) -> String {
    let file = place.join(format!("{name}.1"));
    assert!(file.exists(), "no page {name}");
    good(
        &Command::new("groff")
            .args(["-Kutf8", "-man", "-Tutf8", "-P-cbou"])
            .arg(file)
            .output()
            .expect("groff runs"),
    )
}
