//! What every catalog must do; each implementation runs it.
#![allow(clippy::unwrap_used)]
use uuid::Uuid;

use super::{CatalogError, CatalogStore, DesiredState, MemoryCatalog, PipelineRecord};
use crate::types::{
    CollectionConfig, CollectionId, Distance, ErrorKind, GraphParams, IndexKind, RecallTarget,
};

pub(crate) fn config(name: &str) -> CollectionConfig {
    CollectionConfig {
        id: CollectionId(Uuid::now_v7()),
        name: name.to_string(),
        dim: 768,
        distance: Distance::Cosine,
        graph: GraphParams::default(),
        index: IndexKind::default(),
        clusters: None,
        recall_target: None,
        ef_search: None,
        created_ms: 1_700_000_000_000,
    }
}

fn pipeline(name: &str) -> PipelineRecord {
    PipelineRecord {
        name: name.to_string(),
        yaml: "# a comment, größe\nsource: {kafka: {topic: t}}\n".to_string(),
        desired: DesiredState::Running,
        created_ms: 5,
        updated_ms: 5,
    }
}

/// Runs the suite on an empty catalog.
pub(crate) async fn keeps(catalog: &dyn CatalogStore) {
    collections(catalog).await;
    pipelines(catalog).await;
    schemas(catalog).await;
}

async fn collections(catalog: &dyn CatalogStore) {
    assert_eq!(catalog.collections().await.unwrap(), []);
    let (b, a, upper) = (config("b"), config("a.1"), config("Z"));
    for config in [&b, &a, &upper] {
        catalog.create_collection(config).await.unwrap();
    }
    assert_eq!(catalog.collections().await.unwrap(), [upper.clone(), a.clone(), b.clone()]);
    assert_eq!(catalog.collection("a.1").await.unwrap(), a);
    let again = catalog.create_collection(&config("b")).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AlreadyExists);
    assert_eq!(again.to_string(), "collection \"b\" exists already");
    let twin = CollectionConfig { name: "twin".into(), ..b.clone() };
    let twin = catalog.create_collection(&twin).await.unwrap_err();
    assert_eq!(twin.kind(), ErrorKind::AlreadyExists, "its id is taken");
    for bad in ["", ".b", "b/c", "b\0"] {
        assert_eq!(catalog.create_collection(&config(bad)).await.unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(catalog.collection(bad).await.unwrap_err().kind(), ErrorKind::NotFound);
    }
    assert_eq!(catalog.collection("B").await.unwrap_err().kind(), ErrorKind::NotFound);

    let graph = GraphParams { m: 32, ..b.graph };
    let changed = CollectionConfig { graph, ..b.clone() };
    catalog.update_collection(&b, &changed).await.unwrap();
    assert_eq!(catalog.collection("b").await.unwrap(), changed);
    for other in [
        CollectionConfig { dim: 5, ..b.clone() },
        CollectionConfig { distance: Distance::Dot, ..b.clone() },
        CollectionConfig { id: a.id, ..b.clone() },
        CollectionConfig { created_ms: 0, ..b.clone() },
    ] {
        let error = catalog.update_collection(&changed, &other).await.unwrap_err();
        assert!(matches!(error, CatalogError::Immutable { .. }), "{error}");
    }
    assert_eq!(catalog.collection("b").await.unwrap(), changed);
    let c = config("c");
    assert_eq!(catalog.update_collection(&c, &c).await.unwrap_err().kind(), ErrorKind::NotFound);
    let late = CollectionConfig { recall_target: RecallTarget::new(0.9).ok(), ..b.clone() };
    let error = catalog.update_collection(&b, &late).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "b has changed since: {error}");
    assert_eq!(catalog.collection("b").await.unwrap(), changed, "a late edit takes nothing back");
    let (index, clusters) = (IndexKind::Ivf, Some(64));
    let promised = CollectionConfig { ef_search: Some(48), index, clusters, ..late };
    catalog.update_collection(&changed, &promised).await.unwrap();
    assert_eq!(catalog.collection("b").await.unwrap(), promised);
    let anew = CollectionConfig { id: CollectionId(Uuid::now_v7()), ..promised.clone() };
    assert_eq!(catalog.update_collection(&anew, &anew).await.unwrap_err().kind(), ErrorKind::Conflict);
    let changed = promised;

    assert_eq!(catalog.delete_collection("b").await.unwrap(), changed);
    assert_eq!(catalog.delete_collection("b").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(catalog.collection("b").await.unwrap_err().kind(), ErrorKind::NotFound);
    catalog.create_collection(&config("b")).await.unwrap();
    assert_ne!(catalog.collection("b").await.unwrap().id, b.id, "the name is free, the identity new");
}

async fn pipelines(catalog: &dyn CatalogStore) {
    assert_eq!(catalog.pipelines().await.unwrap(), []);
    let (q, p) = (pipeline("q"), pipeline("p"));
    catalog.create_pipeline(&q).await.unwrap();
    catalog.create_pipeline(&p).await.unwrap();
    assert_eq!(catalog.pipelines().await.unwrap(), [p.clone(), q.clone()]);
    assert_eq!(catalog.create_pipeline(&q).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(catalog.create_pipeline(&pipeline("p q")).await.unwrap_err().kind(), ErrorKind::Invalid);
    let changed = PipelineRecord { yaml: "x: 1".into(), created_ms: 9, updated_ms: 9, ..p.clone() };
    catalog.update_pipeline(&changed).await.unwrap();
    catalog.set_pipeline_state("p", DesiredState::Paused).await.unwrap();
    let expected = PipelineRecord { created_ms: 5, desired: DesiredState::Paused, ..changed };
    assert_eq!(catalog.pipeline("p").await.unwrap(), expected);
    assert_eq!(catalog.update_pipeline(&pipeline("r")).await.unwrap_err().kind(), ErrorKind::NotFound);
    let absent = catalog.set_pipeline_state("r", DesiredState::Paused).await.unwrap_err();
    assert_eq!(absent.to_string(), "pipeline \"r\" does not exist");
    assert_eq!(catalog.delete_pipeline("p").await.unwrap(), expected);
    assert_eq!(catalog.pipeline("p").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(catalog.delete_pipeline("p").await.unwrap_err().kind(), ErrorKind::NotFound);
}

async fn schemas(catalog: &dyn CatalogStore) {
    let registry = "http://registry:8081";
    assert_eq!(catalog.schema(registry, 7).await.unwrap(), None);
    catalog.put_schema(registry, 7, "\"string\"").await.unwrap();
    catalog.put_schema(registry, u32::MAX, "\"long\"").await.unwrap();
    catalog.put_schema("http://other", 7, "\"bytes\"").await.unwrap();
    assert_eq!(catalog.schema(registry, 7).await.unwrap().as_deref(), Some("\"string\""));
    assert_eq!(catalog.schema(registry, u32::MAX).await.unwrap().as_deref(), Some("\"long\""));
    catalog.put_schema(registry, 7, "\"int\"").await.unwrap();
    assert_eq!(catalog.schema(registry, 7).await.unwrap().as_deref(), Some("\"int\""));
    assert_eq!(catalog.schema("http://other", 7).await.unwrap().as_deref(), Some("\"bytes\""));
}

#[tokio::test]
async fn memory_keeps_the_contract() {
    keeps(&MemoryCatalog::default()).await;
}
