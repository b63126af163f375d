//! All deployments that are known, found by id or by number.
//!
//! Invariant: a number belongs to one deployment as long as that is known; iteration is in order of id, whatever the
//! numbers are.

use std::collections::{BTreeMap, HashMap};

use super::store::grow_little;
use super::subject::Subject;
use selfheal_model::DeploymentId;

/// The number of a deployment.
pub(super) type SubjectIx = u32;

#[derive(Clone, Default)]
pub(super) struct Subjects {
    /// Only ever asked for one id: the order of what is in it is never seen.
    numbers: HashMap<DeploymentId, SubjectIx, foldhash::fast::FixedState>,
    order: BTreeMap<DeploymentId, SubjectIx>,
    places: Vec<Option<Subject>>,
    free: Vec<SubjectIx>,
}

impl Subjects {
    pub fn number(&self, id: &DeploymentId) -> Option<SubjectIx> {
        self.numbers.get(id).copied()
    }

    pub fn at(&self, number: SubjectIx) -> Option<&Subject> {
        self.places.get(number as usize)?.as_ref()
    }

    pub fn at_mut(&mut self, number: SubjectIx) -> Option<&mut Subject> {
        self.places.get_mut(number as usize)?.as_mut()
    }

    pub fn get(&self, id: &DeploymentId) -> Option<&Subject> {
        self.at(self.number(id)?)
    }

    pub fn get_mut(&mut self, id: &DeploymentId) -> Option<&mut Subject> {
        self.at_mut(self.number(id)?)
    }

    /// By a scope's label.
    pub fn of_label(&self, id: &str) -> Option<&Subject> {
        self.get(&DeploymentId::new(id))
    }

    pub fn contains(&self, id: &DeploymentId) -> bool {
        self.numbers.contains_key(id)
    }

    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Puts in a deployment that is not known yet.
    pub fn insert(&mut self, subject: Subject) -> SubjectIx {
        let id = subject.id.clone();
        let number = self.free.pop().unwrap_or_else(|| {
            grow_little(&mut self.places);
            self.places.push(None);
            u32::try_from(self.places.len() - 1).unwrap_or(u32::MAX)
        });
        if let Some(place) = self.places.get_mut(number as usize) {
            *place = Some(subject);
        }
        self.numbers.insert(id.clone(), number);
        self.order.insert(id, number);
        number
    }

    pub fn remove(&mut self, id: &DeploymentId) -> Option<Subject> {
        let number = self.numbers.remove(id)?;
        self.order.remove(id);
        self.free.push(number);
        self.places.get_mut(number as usize)?.take()
    }

    /// In order of id.
    pub fn iter(&self) -> impl Iterator<Item = (SubjectIx, &Subject)> {
        self.order.values().filter_map(|number| Some((*number, self.at(*number)?)))
    }

    /// In order of id.
    pub fn values(&self) -> impl Iterator<Item = &Subject> {
        self.iter().map(|(_, subject)| subject)
    }

    /// The numbers, in order of id.
    pub fn numbers(&self) -> Vec<SubjectIx> {
        self.order.values().copied().collect()
    }
}
