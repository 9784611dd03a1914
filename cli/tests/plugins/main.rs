//! What ships in `wasm-plugins/`: manifests, examples, schemas and READMEs are what the filters' own parsers take.

mod every_mistake;
mod field_tables;
mod manifests;
mod readme;
mod schemas;
mod shipped;
mod stat_tags;
