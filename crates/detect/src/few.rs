//! A list that mostly has one item, which then lies in line with what the list is in.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// See the module. One item takes no more than itself where that has a value to spare.
#[derive(Clone, Debug, Default)]
pub(super) enum Few<T> {
    #[default]
    None,
    One(T),
    Many(Vec<T>),
}

impl<T> Few<T> {
    pub fn as_slice(&self) -> &[T] {
        match self {
            Few::None => &[],
            Few::One(one) => std::slice::from_ref(one),
            Few::Many(many) => many,
        }
    }

    pub fn as_mut_slice(&mut self) -> &mut [T] {
        match self {
            Few::None => &mut [],
            Few::One(one) => std::slice::from_mut(one),
            Few::Many(many) => many,
        }
    }

    pub fn iter(&self) -> std::slice::Iter<'_, T> {
        self.as_slice().iter()
    }

    pub fn iter_mut(&mut self) -> std::slice::IterMut<'_, T> {
        self.as_mut_slice().iter_mut()
    }

    pub fn first(&self) -> Option<&T> {
        self.as_slice().first()
    }

    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    pub fn is_empty(&self) -> bool {
        matches!(self, Few::None)
    }

    pub fn insert(&mut self, place: usize, item: T) {
        match self {
            Few::None => *self = Few::One(item),
            Few::One(_) => {
                let mut many = std::mem::take(self).into_vec();
                many.insert(place, item);
                *self = Few::Many(many);
            }
            Few::Many(many) => many.insert(place, item),
        }
    }

    pub fn retain(&mut self, keep: impl FnMut(&T) -> bool) {
        let mut items = std::mem::take(self).into_vec();
        items.retain(keep);
        *self = items.into();
    }

    pub fn into_vec(self) -> Vec<T> {
        match self {
            Few::None => Vec::new(),
            Few::One(one) => vec![one],
            Few::Many(many) => many,
        }
    }
}

impl<T> From<Vec<T>> for Few<T> {
    fn from(mut items: Vec<T>) -> Self {
        match items.len() {
            0 => Few::None,
            1 => items.pop().map_or(Few::None, Few::One),
            _ => Few::Many(items),
        }
    }
}

impl<T: Serialize> Serialize for Few<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.as_slice().serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Few<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Few::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_list_whatever_it_has() {
        let mut few = Few::default();
        let mut list = Vec::new();
        for (place, item) in [(0, 'b'), (0, 'a'), (2, 'd'), (2, 'c')] {
            few.insert(place, item);
            list.insert(place, item);
            assert_eq!((few.as_slice(), few.len(), few.first()), (list.as_slice(), list.len(), list.first()));
        }
        for gone in ['b', 'a', 'd', 'c'] {
            few.retain(|item| *item != gone);
            list.retain(|item| *item != gone);
            assert_eq!((few.as_mut_slice().to_vec(), few.is_empty()), (list.clone(), list.is_empty()));
        }
    }
}
