//! A source whose tasks do nothing.

use std::sync::Arc;

use async_trait::async_trait;
use lakehold_proto::fault::Result;
use lakehold_proto::ids::{EnvName, Kind};
use lakehold_proto::manifest::Manifest;
use lakehold_proto::plan::{Probe, Selection};
use lakehold_proto::task::{Assignment, Shard, TaskSpec};
use lakehold_worker::capture::Capture;
use lakehold_worker::serve::Sources;
use lakehold_worker::source::{SharedSource, Source, SourcePlan};

pub(crate) const KIND: Kind = Kind::of("nothing");

/// A tree of tasks that do nothing: the root finds `wide` branches, each of which finds as many leaves.
#[derive(Debug)]
pub(crate) struct Nothing {
    pub(crate) wide: usize,
}

#[async_trait]
impl Source for Nothing {
    fn name(&self) -> &'static str {
        "nothing"
    }

    fn kinds(&self) -> Vec<Kind> {
        vec![KIND]
    }

    async fn probe(&self) -> Result<Probe> {
        Ok(Probe::default())
    }

    fn plan(&self, _: &Selection, _: &Probe, _: Option<&Manifest>) -> Result<SourcePlan> {
        Ok(SourcePlan { roots: vec![spec("".into())], ..SourcePlan::default() })
    }

    async fn work(&self, assignment: &Assignment, capture: &mut Capture) -> Result<()> {
        let scope = &assignment.task.shard.scope;
        if scope.matches('/').count() < 2 {
            (0..self.wide).for_each(|n| capture.child(spec(format!("{scope}/{n}"))));
        }
        Ok(())
    }
}

fn spec(scope: String) -> TaskSpec {
    TaskSpec {
        kind: KIND,
        shard: Shard::under(scope),
        stage: 0,
        yields: [KIND].into(),
        long: false,
        input: Vec::new(),
    }
}

#[async_trait]
impl Sources for Nothing {
    async fn source(&self, _: &EnvName) -> Result<SharedSource> {
        Ok(Arc::new(Self { wide: self.wide }))
    }
}
