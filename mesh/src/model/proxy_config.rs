//! What the annotation `proxy.istio.io/config` says of the proxies of pods.
//!
//! On a cluster the mesh's `defaultConfig` can say the same for all of them. That is a value of Istio's own chart and no
//! manifest, so it is not known here: what is written at the pods holds in both places.

use crate::api::mesh::ProxyConfig;
use crate::problem::Problem;
use crate::source::Source;
use crate::source::decode::decode;
use crate::source::field::FieldPath;

pub(crate) const ANNOTATION: &str = "proxy.istio.io/config";

/// Reads the annotation, which is the text of a field.
pub(crate) fn read(
    source: &Source,
    field: &str,
    text: &str,
    problems: &mut Vec<Problem>,
) -> Option<ProxyConfig> {
    let (mut documents, wrong) = source.text(&FieldPath::parse(field), text);
    problems.extend(wrong);
    if documents.len() > 1 {
        problems.push(source.invalid(field, "is more than one document"));
        return None;
    }
    let document = documents.pop()?;
    decode(
        document.value,
        "",
        "ProxyConfig",
        &document.source,
        problems,
    )
}
