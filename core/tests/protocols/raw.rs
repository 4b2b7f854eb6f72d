//! A replacement of the engine's `raw`: the model's atomics with the engine's names, and a futex.

pub(crate) mod sync {
    use crate::model::{Without, without};
    use loom::sync::atomic::fence as model_fence;
    use std::sync::Arc;
    pub(crate) use std::sync::atomic::Ordering;

    /// A fence of the protocol.
    pub(crate) fn fence(order: Ordering) {
        if !without(Without::Fences) {
            model_fence(order);
        }
    }

    /// The model's own atomics treat SeqCst as AcqRel, but support SeqCst fences: each sequentially consistent access
    /// is one with fences.
    macro_rules! atomic {
        ($name:ident, $int:ty) => {
            #[derive(Clone, Debug)]
            pub(crate) struct $name(Arc<loom::sync::atomic::$name>);

            #[allow(dead_code)] // Each of the two users needs a part.
            impl $name {
                pub(crate) fn new(value: $int) -> $name {
                    $name(Arc::new(loom::sync::atomic::$name::new(value)))
                }

                pub(crate) fn load(&self, order: Ordering) -> $int {
                    if strong(order) {
                        model_fence(Ordering::SeqCst);
                    }
                    self.0.load(if order == Ordering::SeqCst {
                        Ordering::Acquire
                    } else {
                        order
                    })
                }

                pub(crate) fn store(&self, value: $int, order: Ordering) {
                    self.0.store(
                        value,
                        if order == Ordering::SeqCst {
                            Ordering::Release
                        } else {
                            order
                        },
                    );
                    if strong(order) {
                        model_fence(Ordering::SeqCst);
                    }
                }

                pub(crate) fn compare_exchange(
                    &self,
                    old: $int,
                    new: $int,
                    ok: Ordering,
                    err: Ordering,
                ) -> Result<$int, $int> {
                    self.around(ok, |w| {
                        w.compare_exchange(old, new, weaker(ok), weaker_load(err))
                    })
                }

                pub(crate) fn fetch_add(&self, n: $int, order: Ordering) -> $int {
                    self.around(order, |w| w.fetch_add(n, weaker(order)))
                }

                fn around<R>(&self, order: Ordering, f: impl FnOnce(&loom::sync::atomic::$name) -> R) -> R {
                    if strong(order) {
                        model_fence(Ordering::SeqCst);
                    }
                    let done = f(&self.0);
                    if strong(order) {
                        model_fence(Ordering::SeqCst);
                    }
                    done
                }
            }
        };
    }

    atomic!(AtomicU64, u64);
    atomic!(AtomicU32, u32);

    fn strong(order: Ordering) -> bool {
        order == Ordering::SeqCst && !without(Without::Fences)
    }

    fn weaker(order: Ordering) -> Ordering {
        if order == Ordering::SeqCst {
            Ordering::AcqRel
        } else {
            order
        }
    }

    fn weaker_load(order: Ordering) -> Ordering {
        if order == Ordering::SeqCst {
            Ordering::Acquire
        } else {
            order
        }
    }

    /// The same memory as the protocol's word.
    #[derive(Clone, Debug)]
    pub(crate) struct FutexWord(pub(crate) AtomicU64);

    impl FutexWord {
        pub(crate) fn load(&self, order: Ordering) -> u32 {
            self.0.load(order) as u32
        }
    }
}

/// The kernel's futex: comparing and falling asleep are one step.
pub(crate) mod futex {
    use super::sync::{FutexWord, Ordering};
    use crate::model::{SLEEPERS, Without, without};
    use std::time::Duration;

    pub(crate) fn wait(word: &FutexWord, expected: u32, _at_most: Duration) {
        let bucket = &*SLEEPERS;
        let mut asleep = bucket.0.lock().unwrap();
        if !without(Without::Comparison) && word.load(Ordering::SeqCst) != expected {
            return;
        }
        let mine = asleep.0;
        asleep.0 += 1;
        while asleep.1 <= mine {
            asleep = bucket.1.wait(asleep).unwrap();
        }
    }

    /// Wakes in the order in which the threads fell asleep.
    pub(crate) fn wake(_word: &FutexWord, count: i32) -> i32 {
        let bucket = &*SLEEPERS;
        let mut asleep = bucket.0.lock().unwrap();
        let n = (asleep.0 - asleep.1).min(count);
        asleep.1 += n;
        bucket.1.notify_all();
        n
    }
}
