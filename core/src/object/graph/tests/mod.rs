//! Tests of the graph: against a model (`model`), case by case (`cases`), and at sizes that reveal recursion
//! and quadratic cost (`size`).

mod cases;
mod hostile;
mod model;
mod size;

use super::Collection;
use super::testing::GraphMem;

/// Run a complete collection in small steps. Return the number of containers freed.
fn collect_all(w: &mut GraphMem) -> u64 {
    let mut c = Collection::default();
    for _ in 0..1_000_000 {
        c.step(w, 50).unwrap();
        w.commit();
        if c.done {
            return c.freed;
        }
    }
    panic!("a collection that does not end");
}
