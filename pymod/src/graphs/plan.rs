//! A graph that will be stored, without Python: the input of the write section.

use persist_core::store::{In, Kind, Obj, Result, Writer};

use crate::python::scalars::Scalar;

/// A value of a plan.
pub(crate) enum Part<'a> {
    Scalar(Scalar<'a>),
    Node(usize),
    Obj(Obj),
}

/// A container of a plan.
pub(crate) struct PlanNode<'a> {
    pub(crate) kind: Kind,
    pub(crate) class: Option<&'a str>,
    pub(crate) adopt: bool,
    pub(crate) entries: Vec<(Option<Scalar<'a>>, Part<'a>)>,
}

/// The graph without Python: the input of the write section.
pub(crate) struct Plan<'a> {
    pub(crate) top: Vec<Part<'a>>,
    pub(crate) nodes: Vec<PlanNode<'a>>,
}

/// A plan whose containers have been created.
pub(crate) struct Built<'a> {
    pub(crate) plan: &'a Plan<'a>,
    pub(crate) made: &'a [Obj],
}

impl Built<'_> {
    /// The n-th added value.
    pub(crate) fn top(&self, n: usize) -> In<'_> {
        input(&self.plan.top[n], self.made)
    }
}

fn input<'a>(part: &'a Part<'_>, made: &[Obj]) -> In<'a> {
    match part {
        Part::Scalar(scalar) => scalar.input(),
        Part::Node(n) => In::Obj(made[*n]),
        Part::Obj(obj) => In::Obj(*obj),
    }
}

impl Plan<'_> {
    /// The number of added values.
    pub(crate) fn len(&self) -> usize {
        self.top.len()
    }

    /// Create the containers, empty.
    pub(crate) fn create(&self, w: &mut Writer<'_>, made: &mut Vec<Obj>) -> Result<()> {
        for node in &self.nodes {
            let obj = match node.kind {
                Kind::Dict => w.new_dict()?,
                Kind::List => w.new_list()?,
                Kind::Object => w.new_object(node.class.unwrap_or(""))?,
            };
            if node.kind != Kind::Object && node.class.is_some() {
                w.set_class(obj, node.class)?;
            }
            made.push(obj);
        }
        Ok(())
    }

    /// Fill the containers.
    pub(crate) fn fill(&self, w: &mut Writer<'_>, made: &[Obj]) -> Result<()> {
        for (node, obj) in self.nodes.iter().zip(made) {
            for (index, (key, part)) in node.entries.iter().enumerate() {
                let value = input(part, made);
                match key {
                    Some(key) => w.set(*obj, &key.key(), &value)?,
                    None => w.insert(*obj, index as u64, &value)?,
                }
            }
        }
        Ok(())
    }
}
