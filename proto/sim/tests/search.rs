//! Every way in which a small cluster's steps can depart from their order.
#![allow(clippy::print_stdout, reason = "measurements are printed")]

use std::time::Instant;

use chorus_sim::search::{Bounds, Found, Lie, search};

/// Three nodes, two terms; each leader's own entry, and with a command one more.
const TWO_TERMS: Bounds =
    Bounds { campaigns: 2, commands: 0, crashes: 0, repeats: 0, deviations: 0, states_max: usize::MAX };

fn look_at(what: &str, bounds: Bounds) -> Found {
    let begun = Instant::now();
    let found = search(bounds, None);
    println!(
        "measured: {what}: {} states, {} steps, {} ends, up to {} entries committed{}, in {:.1} s",
        found.states,
        found.steps,
        found.ends,
        found.committed_max,
        if found.cut_short { ", cut short" } else { ", all there are" },
        begun.elapsed().as_secs_f64()
    );
    if let Some(broken) = &found.broken {
        panic!("{what}: {broken}");
    }
    assert_eq!(found.term_max, 2, "{what}: nobody led in the second term");
    found
}

#[test]
fn two_terms_and_a_command_at_any_moment() {
    let found = look_at("two campaigns, a command", Bounds { commands: 1, ..TWO_TERMS });
    assert!(!found.cut_short && found.committed_max == 3, "{found:?}");
}

#[test]
fn a_crash_at_any_moment() {
    let found = look_at("two campaigns, a crash", Bounds { crashes: 1, ..TWO_TERMS });
    assert!(!found.cut_short, "{found:?}");
}

#[test]
fn a_message_lost_late_or_twice_at_any_moment() {
    let found = look_at("two campaigns, a loss or delay", Bounds { deviations: 1, ..TWO_TERMS });
    assert!(!found.cut_short, "{found:?}");
    let found = look_at("two campaigns, a repetition", Bounds { repeats: 1, ..TWO_TERMS });
    assert!(!found.cut_short, "{found:?}");
}

#[test]
fn a_crash_together_with_a_loss_or_delay() {
    let bounds = Bounds { crashes: 1, deviations: 1, ..TWO_TERMS };
    let found = look_at("two campaigns, a crash, a loss or delay", bounds);
    assert!(!found.cut_short, "{found:?}");
}

/// A bug that is planted: the search sees it, and tells how.
#[test]
fn a_disk_that_loses_what_it_said_to_hold_is_found_out() {
    let bounds = Bounds { crashes: 1, deviations: 1, ..TWO_TERMS };
    let found = search(bounds, Some(Lie::EntriesNotSynced));
    println!("measured: entries that were not synced are found after {} states", found.states);
    assert!(found.broken.is_some(), "not found in {} states", found.states);
}
