//! Points in time against an oracle that keeps a copy of every disk at every boundary.

mod common;

use common::{Item, small};
use testkit::Rng;

#[test]
fn invariant_3_every_point_materialises_byte_exact() {
    for seed in 0..30 {
        let mut rng = Rng::new(seed);
        let mut item = Item::new(small());
        item.run_random(&mut rng, 40);
        item.check_points(&format!("seed {seed}"));
        item.check_reads(&mut rng, 50, &format!("seed {seed}"));
        let mut item = item.reopen();
        item.check_points(&format!("seed {seed}, opened again"));
        item.run_random(&mut rng, 10);
        item.check_points(&format!("seed {seed}, gone on"));
        assert_eq!(item.journal.points(&Default::default()).unwrap().len(), 50);
    }
}

#[test]
fn invariant_7_rollback_is_journaled_and_forward_again_is_another() {
    for seed in 0..20 {
        let mut rng = Rng::new(seed);
        let mut item = Item::new(small());
        item.run_random(&mut rng, 30);
        for _ in 0..4 {
            let to = 1 + rng.below(item.history.len() as u64 - 1);
            let back = item.rollback_batch(to).unwrap();
            item.run(&back);
            assert!(item.live_contents() == item.history[to as usize], "seed {seed}: rolled back to {to}");
            item.check_points(&format!("seed {seed}, rolled back to {to}"));
            item.run_random(&mut rng, 3);
        }
        item.reopen().check_points(&format!("seed {seed}, opened again"));
    }
}
