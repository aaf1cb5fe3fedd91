//! Processor time: what work costs, whatever else the machine does meanwhile.

use std::time::Duration;

/// How long this thread has had a processor: what the clients cost where they run on one thread. None where the
/// kernel does not tell.
#[must_use]
pub fn cpu_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}

/// How long a process of this machine has had processors, all of its threads together, to 10 ms. None where there is no
/// such process.
#[must_use]
pub fn process_time(pid: i32) -> Option<Duration> {
    // Behind the name, which may hold anything, the third field comes first; user and system time are 14 and 15.
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 1_000 / rustix::param::clock_ticks_per_second().max(1)))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn work_takes_processor_time() {
        let own = i32::try_from(std::process::id()).expect("a pid");
        let before = (cpu_time().expect("Linux tells"), process_time(own).expect("Linux tells"));
        let begun = Instant::now();
        // A busy machine may let this thread wait for long.
        while begun.elapsed() < Duration::from_secs(10) {
            std::hint::spin_loop();
            let now = (cpu_time().expect("Linux tells"), process_time(own).expect("Linux tells"));
            if now.0 > before.0 && now.1 > before.1 {
                return;
            }
        }
        panic!("ten seconds of work took no time");
    }

    #[test]
    fn who_is_not_there_takes_none() {
        assert_eq!(process_time(i32::MAX), None);
    }
}
