//! Golden scripts: stories told step by step, and what the nodes do at each.
//!
//! A script is a header of `#` lines that states its claim, and blocks: steps, a line `---`, and the lines that the steps
//! must bring forth, up to an empty line.
//!
//! ```text
//! # A candidate with a shorter log is refused, though its term is higher (thesis 3.6.1).
//! nodes n1 n2 n3
//! disk n2 log=1 term=1
//! start
//! say n3 → n2 VOTEME term=2 last=t0/i1
//! ---
//! n2 term 1 → 2
//! n2 → n3  !LEADME term=2
//! ```
//!
//! The steps:
//! - `nodes N…`, `learners N…`: who there is, founded before the story begins; `empty`: with empty disks instead.
//! - `disk N log=1,1,2 term=2 vote=n1 applied=2 base=2 promised=t2/i9`: what a disk holds (terms of the entries after the
//!   founding record), up to where its log is compacted, and the last entry that the promise file names.
//! - `start [N…]`, `crash N [keeps=W]`: processes begin, and end with W of their waiting writes on disk; `older N to=I [term=T]`:
//!   then an old copy of its disk is brought back, which ends with I, and with an older term without a vote.
//! - `lead N`: N campaigns and everything is delivered until it leads, in silence.
//! - `tick N [until=WORD]`: the clock goes to N's deadline, once, or until N is in that role or says that message.
//! - `wait 40ms`: the clock goes on, and nobody looks at it.
//! - `run 1500ms`: time passes as it does, all timers fire and everything arrives at once, in silence.
//! - `deliver [N] [MESSAGE] [from=N]`: what is under way arrives; `deliver all` goes on until nothing is under way;
//!   `drop …` loses it instead.
//! - `slow N`: its writes wait for `sync N`; `quick N` ends that.
//! - `propose N WORD…` (or `bytes=B`), `read N NONCE`, `resign N [to=M]`, `campaign N`, `playdead N`, `revive N`.
//! - `compact N to=I`: its log drops the entries up to I. `offer N M`: N offers M a snapshot of its state as it is; `fetched M`:
//!   the one that was offered last has come; `unfetched M`: it could not be had.
//! - `add N M`, `remove N M`: N, if it leads, lets M vote from now on, or no more.
//! - `unproven N M`: something of M reaches N, of a start that has not shown that it hears N's; elsewhere all have.
//! - `say N → M MESSAGE field=value…`: a message that N never said arrives at M. From then on nothing but the script judges.
//! - `show N…`: term, leader, log, and how far it is committed.
//! - `with HELLO`: HELLOs are shown from now on.

mod parse;
mod stage;

pub use parse::ScriptError;

use parse::Block;
use stage::Stage;

/// Runs a script; returns it with what really happened in the place of what was expected.
///
/// # Errors
/// When a step cannot be read or carried out, or an invariant breaks.
pub fn run(script: &str) -> Result<String, ScriptError> {
    let (mut stage, mut told) = (Stage::default(), String::new());
    for Block { first_line, steps, .. } in parse::blocks(script) {
        if !told.is_empty() {
            told.push('\n');
        }
        for (offset, line) in steps.iter().enumerate() {
            told.push_str(line);
            told.push('\n');
            let outcome = stage.step(line);
            outcome.map_err(|detail| ScriptError { line: first_line + offset, detail })?;
        }
        told.push_str("---\n");
        for line in stage.take_lines() {
            told.push_str(&line);
            told.push('\n');
        }
    }
    Ok(told)
}
