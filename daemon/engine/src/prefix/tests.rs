//! What is found, what makes room, and what a byte budget holds, without any arrays.

use proptest::prelude::*;

use super::*;

fn known(tokens: &[u32]) -> Known {
    Known { tokens: tokens.to_vec(), ..Known::default() }
}

fn put(cache: &mut PrefixCache<u32>, tokens: &[u32], name: u32) {
    cache.put(known(tokens), name, tokens.len() as u64);
}

/// The conversation found by name, and the length in common.
fn find(cache: &PrefixCache<u32>, tokens: &[u32]) -> Option<(u32, usize)> {
    let Found { index, common } = cache.find(tokens)?;
    Some((cache.entries[index].held.unwrap().0, common))
}

#[test]
fn agents_that_take_turns_find_their_own() {
    let mut cache = PrefixCache::new(100);
    put(&mut cache, &[1, 2, 3, 10, 11], 0);
    put(&mut cache, &[1, 2, 3, 20, 21, 22], 1);
    assert_eq!(find(&cache, &[1, 2, 3, 10, 11, 12]), Some((0, 5)));
    assert_eq!(find(&cache, &[1, 2, 3, 20, 9]), Some((1, 4)));
    assert_eq!(find(&cache, &[1, 2, 3, 4]), Some((1, 3)), "the latest of equals");
    assert_eq!(find(&cache, &[2]), None);
    let index = cache.find(&[1, 2, 3, 10]).unwrap().index;
    assert_eq!(cache.take(index), Some(0));
    assert_eq!((cache.held_bytes(), cache.all().count()), (6, 1));
}

#[test]
fn the_one_used_longest_ago_makes_room_and_is_remembered() {
    let mut cache = PrefixCache::new(10);
    put(&mut cache, &[1, 1, 1, 1], 0);
    put(&mut cache, &[2, 2, 2, 2], 1);
    let index = cache.find(&[1]).unwrap().index;
    assert_eq!(cache.look(index), Some(&0));
    put(&mut cache, &[3, 3, 3], 2);
    assert_eq!(find(&cache, &[2, 2]), None, "the other was looked at since");
    assert_eq!((find(&cache, &[1]), find(&cache, &[3])), (Some((0, 1)), Some((2, 1))));
    assert_eq!(cache.all().map(|(_, held)| held).collect::<Vec<_>>(), [false, true, true]);
    cache.make_room(10);
    assert_eq!((cache.held_bytes(), cache.all().count()), (0, 3));
    put(&mut cache, &[4; 11], 3);
    assert_eq!(find(&cache, &[4]), None, "more than all the budget");
    for name in 10..100 {
        put(&mut cache, &[name, 0, 0, 0, 0, 0], name);
    }
    assert_eq!(cache.all().filter(|(_, held)| !held).count(), REMEMBERED);
}

#[test]
fn a_longer_one_takes_the_place_of_its_beginnings() {
    let mut cache = PrefixCache::new(100);
    put(&mut cache, &[1, 2], 0);
    put(&mut cache, &[1, 2, 3, 4], 1);
    put(&mut cache, &[1, 2, 5], 2);
    put(&mut cache, &[1, 2, 3], 3);
    assert_eq!(cache.all().count(), 2);
    assert_eq!(cache.held_bytes(), 7);
    assert_eq!(find(&cache, &[1, 2]), Some((1, 2)), "the one that begins with what was put in");
}

/// What a test does to a cache.
#[derive(Clone, Debug)]
enum Deed {
    Put(Vec<u32>),
    Take(Vec<u32>),
    Look(Vec<u32>),
    Room(u64),
}

fn deed() -> impl Strategy<Value = Deed> {
    let tokens = || prop::collection::vec(0_u32..3, 1..9);
    prop_oneof![
        4 => tokens().prop_map(Deed::Put),
        1 => tokens().prop_map(Deed::Take),
        1 => tokens().prop_map(Deed::Look),
        1 => (0_u64..40).prop_map(Deed::Room),
    ]
}

proptest! {
    #[test]
    fn the_books_are_right_after_every_deed(
        deeds in prop::collection::vec(deed(), 0..40),
        budget in 0_u64..40,
    ) {
        let mut cache = PrefixCache::new(budget);
        for (name, deed) in deeds.into_iter().enumerate() {
            match deed {
                Deed::Put(tokens) => {
                    put(&mut cache, &tokens, u32::try_from(name).unwrap());
                    if tokens.len() as u64 <= budget {
                        let found = cache.find(&tokens).map(|found| found.common);
                        prop_assert_eq!(found, Some(tokens.len()), "what was put in is found");
                    }
                }
                Deed::Take(tokens) => if let Some(Found { index, .. }) = cache.find(&tokens) {
                    prop_assert!(cache.take(index).is_some());
                },
                Deed::Look(tokens) => if let Some(Found { index, .. }) = cache.find(&tokens) {
                    prop_assert!(cache.look(index).is_some());
                },
                Deed::Room(bytes) => {
                    cache.make_room(bytes);
                    prop_assert!(cache.held_bytes() == 0 || cache.held_bytes() + bytes <= budget);
                }
            }
            let held = cache.entries.iter().filter_map(|entry| entry.held.as_ref());
            prop_assert_eq!(held.map(|(_, bytes)| bytes).sum::<u64>(), cache.held_bytes());
            prop_assert!(cache.held_bytes() <= budget);
            for (at, (known, _)) in cache.all().enumerate() {
                let longer = cache.all().enumerate().find(|(other, (longer, held))| {
                    *other != at && *held && longer.tokens.starts_with(&known.tokens)
                });
                prop_assert!(longer.is_none(), "a beginning of another is kept");
            }
        }
    }
}
