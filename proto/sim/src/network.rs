//! The model of the network: every receiver loses, delays and repeats on its own, and links are cut one way or both.

use chorus_proto::types::Span;

/// How bad the network is.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Of 1,000 datagrams so many are lost, at each receiver on its own.
    pub lost: u32,
    /// So many come twice.
    pub repeated: u32,
    /// So many are held up for up to `late_max`, and overtaken.
    pub late: u32,
    /// The usual delay is at most this.
    pub delay_max: Span,
    /// The longest delay.
    pub late_max: Span,
}

impl Weather {
    /// A quiet wired network.
    pub const CALM: Self = Self { lost: 0, repeated: 0, late: 0, delay_max: Span(300), late_max: Span(300) };

    /// Some weather between calm and terrible.
    #[must_use]
    pub fn draw(rng: &mut fastrand::Rng) -> Self {
        let worst = [0, 20, 100, 300][rng.usize(..4)];
        Self {
            lost: rng.u32(0..=worst),
            repeated: rng.u32(0..=worst),
            late: rng.u32(0..=worst),
            delay_max: Span([200, 1_000, 5_000, 20_000][rng.usize(..4)]),
            late_max: Span([5_000, 50_000, 400_000][rng.usize(..3)]),
        }
    }

    /// The delays after which one datagram arrives at one receiver: none, one, or two.
    #[must_use]
    pub fn fate(&self, rng: &mut fastrand::Rng) -> [Option<Span>; 2] {
        if rng.u32(..1_000) < self.lost {
            return [None, None];
        }
        let first = self.delay(rng);
        let second = (rng.u32(..1_000) < self.repeated).then(|| self.delay(rng));
        [Some(first), second]
    }

    fn delay(&self, rng: &mut fastrand::Rng) -> Span {
        const DELAY_MIN_US: u64 = 30;
        let longest = if rng.u32(..1_000) < self.late { self.late_max } else { self.delay_max };
        Span(rng.u64(DELAY_MIN_US..=longest.0.max(DELAY_MIN_US)))
    }
}

/// Which nodes hear which.
#[derive(Debug)]
pub struct Links {
    cut: Vec<Vec<bool>>,
}

impl Links {
    /// Everybody hears everybody.
    #[must_use]
    pub fn new(nodes: usize) -> Self {
        Self { cut: vec![vec![false; nodes]; nodes] }
    }

    /// `to` hears `from`.
    #[must_use]
    pub fn hears(&self, from: usize, to: usize) -> bool {
        !self.cut[from][to]
    }

    /// Cuts the way from one to the other.
    pub fn cut(&mut self, from: usize, to: usize) {
        self.cut[from][to] = true;
    }

    /// Cuts between two sides, one of them given by its members.
    pub fn part(&mut self, is_inside: impl Fn(usize) -> bool) {
        for from in 0..self.cut.len() {
            for to in 0..self.cut.len() {
                self.cut[from][to] |= is_inside(from) != is_inside(to);
            }
        }
    }

    /// Mends everything.
    pub fn mend(&mut self) {
        self.cut.iter_mut().for_each(|row| row.fill(false));
    }

    /// Mends what touches one node.
    pub fn mend_one(&mut self, node: usize) {
        self.cut[node].fill(false);
        self.cut.iter_mut().for_each(|row| row[node] = false);
    }
}
