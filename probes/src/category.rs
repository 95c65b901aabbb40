//! What a user asks about: the eight categories that a run's wall time is split over, and a table with one number for each.

use std::ops::{Index, IndexMut};

use serde::{Deserialize, Serialize};

/// Where an instant of a run went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// The target model's own work, from template to detokenise.
    Generation,
    /// What drafting costs: draft, accept, rollback.
    Speculation,
    /// Tools the agent ran.
    Tool,
    /// Moving bytes between agent, dwell and upstream.
    Http,
    /// The agent framework's own time.
    Framework,
    /// Waiting for a free engine or server.
    Queue,
    /// Waiting for a person.
    Human,
    /// Time that nothing explains.
    Unknown,
}

impl Category {
    /// Every category, in the order in which they are shown.
    pub const ALL: [Self; 8] = [
        Self::Generation,
        Self::Speculation,
        Self::Tool,
        Self::Http,
        Self::Framework,
        Self::Queue,
        Self::Human,
        Self::Unknown,
    ];

    /// The name used in data, metrics and on screens.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Generation => "generation",
            Self::Speculation => "speculation",
            Self::Tool => "tool",
            Self::Http => "http",
            Self::Framework => "framework",
            Self::Queue => "queue",
            Self::Human => "human",
            Self::Unknown => "unknown",
        }
    }
}

/// One number of nanoseconds for each category.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PerCategory {
    generation: u64,
    speculation: u64,
    tool: u64,
    http: u64,
    framework: u64,
    queue: u64,
    human: u64,
    unknown: u64,
}

impl PerCategory {
    /// The sum over all categories; stops at the largest number there is.
    pub fn total(&self) -> u64 {
        self.iter().fold(0, |sum, (_, ns)| sum.saturating_add(ns))
    }

    /// Category and number, in display order.
    pub fn iter(&self) -> impl Iterator<Item = (Category, u64)> + '_ {
        Category::ALL.into_iter().map(|category| (category, self[category]))
    }

    /// Adds another table, category by category; stops at the largest number there is.
    pub fn add(&mut self, other: &Self) {
        for category in Category::ALL {
            self[category] = self[category].saturating_add(other[category]);
        }
    }

    /// The category with the largest number; the first in display order among equals.
    pub fn largest(&self) -> (Category, u64) {
        let none = (Category::Generation, 0);
        // `max_by_key` would take the last of equals.
        self.iter().fold(none, |best, next| if next.1 > best.1 { next } else { best })
    }
}

impl Index<Category> for PerCategory {
    type Output = u64;

    fn index(&self, category: Category) -> &u64 {
        match category {
            Category::Generation => &self.generation,
            Category::Speculation => &self.speculation,
            Category::Tool => &self.tool,
            Category::Http => &self.http,
            Category::Framework => &self.framework,
            Category::Queue => &self.queue,
            Category::Human => &self.human,
            Category::Unknown => &self.unknown,
        }
    }
}

impl IndexMut<Category> for PerCategory {
    fn index_mut(&mut self, category: Category) -> &mut u64 {
        match category {
            Category::Generation => &mut self.generation,
            Category::Speculation => &mut self.speculation,
            Category::Tool => &mut self.tool,
            Category::Http => &mut self.http,
            Category::Framework => &mut self.framework,
            Category::Queue => &mut self.queue,
            Category::Human => &mut self.human,
            Category::Unknown => &mut self.unknown,
        }
    }
}
