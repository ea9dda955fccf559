//! Directed links between the machines of the cluster, and what they do to frames.

use super::config::NetworkDraw;
use super::draw::Draw;
use super::time::WorldTime;

/// One direction between two machines.
#[derive(Clone, Default)]
struct Link {
    /// How many cuts lie on it now.
    cuts: u32,
    clogged_until: WorldTime,
    /// Frames that are not reordered arrive after this.
    last_arrival: WorldTime,
}

/// What a frame meets on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    Lost,
    /// It arrives then, and perhaps once more.
    Arrives(WorldTime, Option<WorldTime>),
}

/// All links.
pub(crate) struct Network {
    count: usize,
    links: Vec<Link>,
    shape: NetworkDraw,
    /// Loss, repetition, reordering and long delays act only while a storm lasts.
    pub(crate) is_stormy: bool,
}

impl Network {
    pub(crate) fn new(count: usize, shape: NetworkDraw) -> Self {
        Self { count, links: vec![Link::default(); count * count], shape, is_stormy: false }
    }

    fn link(&mut self, from: usize, to: usize) -> &mut Link {
        &mut self.links[from * self.count + to]
    }

    /// Whether frames pass in this direction.
    pub(crate) fn passes(&self, from: usize, to: usize) -> bool {
        self.links[from * self.count + to].cuts == 0
    }

    /// Whether frames pass in both directions.
    pub(crate) fn is_joined(&self, a: usize, b: usize) -> bool {
        self.passes(a, b) && self.passes(b, a)
    }

    pub(crate) fn cut(&mut self, from: usize, to: usize) {
        let link = self.link(from, to);
        link.cuts += 1;
    }

    pub(crate) fn mend(&mut self, from: usize, to: usize) {
        let link = self.link(from, to);
        link.cuts = link.cuts.saturating_sub(1);
    }

    pub(crate) fn clog(&mut self, from: usize, to: usize, until: WorldTime) {
        self.link(from, to).clogged_until = until;
    }

    /// Ends every fault of the network.
    pub(crate) fn heal(&mut self, now: WorldTime) {
        self.is_stormy = false;
        for link in &mut self.links {
            link.cuts = 0;
            link.clogged_until = now.min(link.clogged_until);
        }
    }

    /// What becomes of a frame of this size sent now.
    pub(crate) fn send(
        &mut self,
        now: WorldTime,
        (from, to): (usize, usize),
        size_bytes: usize,
        draw: &mut Draw,
    ) -> Fate {
        let shape = self.shape;
        let is_stormy = self.is_stormy;
        if !self.passes(from, to) || is_stormy && draw.chance_ppm(shape.loss_ppm) {
            return Fate::Lost;
        }
        let delay = |draw: &mut Draw| {
            let mut delay_us = shape.delay_min_us + draw.between(0, shape.delay_spread_us) + size_bytes as u64 / 100;
            if is_stormy && draw.chance_ppm(shape.late_ppm) {
                delay_us += draw.spread(shape.delay_min_us.max(1), shape.late_max_us);
            }
            delay_us
        };
        let is_reordered = is_stormy && draw.chance_ppm(shape.reorder_ppm);
        let delay_us = delay(draw);
        let link = self.link(from, to);
        let mut arrival = now.max(link.clogged_until).plus_us(delay_us);
        if is_reordered {
            arrival = arrival.plus_us(draw.spread(100, shape.late_max_us));
        } else {
            // In order: a stream does not overtake itself.
            arrival = arrival.max(link.last_arrival.plus_us(1));
            link.last_arrival = arrival;
        }
        let again = (is_stormy && draw.chance_ppm(shape.repeat_ppm)).then(|| {
            let longest_us = if draw.chance(5) { 90_000_000 } else { shape.late_max_us };
            arrival.plus_us(draw.spread(10, longest_us))
        });
        Fate::Arrives(arrival, again)
    }
}
