//! Power is lost while a state is set aside that is ahead of its log: the state is all that shows that the log lost its end.

use std::path::Path;

use fastrand::Rng;
use rusqlite::Connection;

use super::disk::{Disk, Image, Loss};
use super::judge::{Heir, lay_out};
use super::life::Script;
use super::{FORKS, Stage, memory, trace};
use crate::snapshots::{grow, grown};
use crate::support::{copy, id, open};

/// The log's last entry, and the promise's.
const LEFT: u64 = 40;
/// The state's.
const HAD: u64 = 60;

/// A directory as it is on disk.
fn image_of(directory: &Path) -> Image {
    let mut image = Image::default();
    let mut places = vec![directory.to_owned()];
    while let Some(place) = places.pop() {
        for entry in std::fs::read_dir(place).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(directory).unwrap().to_owned();
            if path.is_dir() {
                image.directories.push(name);
                places.push(path);
            } else {
                image.files.insert(name, std::fs::read(path).unwrap());
            }
        }
    }
    image.directories.sort();
    image
}

#[test]
fn a_state_that_shows_what_the_log_lost_is_set_aside_only_behind_a_promise_that_says_so() {
    let place = memory();
    let path = grown(&place.path().join("node"), LEFT).close();
    let promise = std::fs::read(path.join("promise")).unwrap();
    let mut node = open(&path);
    grow(&mut node, LEFT + 1, HAD);
    node.close();
    let log = Connection::open(path.join("log.db")).unwrap();
    log.execute("DELETE FROM log WHERE idx > ?1", [LEFT.cast_signed()]).unwrap();
    drop(log);
    std::fs::write(path.join("promise"), promise).unwrap();

    let stage = Stage::new();
    copy(&path, &stage.node());
    let mut disk = Disk::new(&image_of(&path));
    stage.run(&Script { seed: 1, steps: 0, large: 0, compacts: false, killed: true });
    let steps = trace::read(&stage.trace());
    let (mut rng, mut images, mut set_aside) = (Rng::with_seed(1), 0, 0);
    for (number, step) in steps.iter().enumerate() {
        disk.play(step);
        for loss in Loss::ALL {
            let image = disk.image(loss, &mut rng);
            let _no_process_is_made = FORKS.read().unwrap();
            let place = memory();
            lay_out(&image, place.path());
            set_aside += usize::from(!place.path().join("state/1").exists());
            let heir =
                Heir::open(place.path()).unwrap_or_else(|wrong| panic!("step {number}, {loss:?}: {wrong}"));
            let durable = &heir.opened.durable;
            assert_eq!(durable.last_id, id(1, LEFT));
            assert_eq!(durable.promised_id, id(1, HAD), "step {number}, {loss:?}: it takes itself for whole");
            images += 1;
        }
    }
    println!("measured: {images} images of {} steps; in {set_aside} the state was gone", steps.len());
    assert!(set_aside > 8, "{set_aside}");
}
