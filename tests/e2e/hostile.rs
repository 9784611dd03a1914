//! Headers that a filter must survive.

use anyhow::{Result, ensure};
use tollgate_tests::{LocalMesh, Target, exchange};

pub(crate) async fn odd_headers_are_answered(mesh: &LocalMesh) -> Result<()> {
    let gateway = mesh.gateway_address()?;
    let long = vec![b'a'; 16 * 1024];
    let many: Vec<(&[u8], &[u8])> = (0..80)
        .map(|_| (&b"x-tenant-id"[..], &b"acme"[..]))
        .collect();
    let requests: &[&[(&[u8], &[u8])]] = &[
        &[(b"x-tenant-id", b"a\xff\xfeb")],
        &[(b"x-user-id", b"\x80\x81\xfe"), (b"x-tenant-id", b"odd-1")],
        &[(b"user-type", b"\xc3\x28"), (b"x-tenant-id", b"odd-2")],
        &[(b"x-tenant-tier", b"\xff"), (b"x-tenant-id", b"odd-3")],
        &[(b"cookie", b"a=\xf0\x9f"), (b"x-tenant-id", b"odd-4")],
        &[(b"x-tenant-id", b"")],
        &[(b"x-tenant-id", b"   ")],
        &[(b"x-tenant-id", b"odd-5"), (b"x-tenant-id", b"odd-6")],
        &[(b"x-tenant-id", b"odd-7;.;=.=premium")],
        &[(b"x-tenant-id", &long)],
        &[(b"x-user-id", &long), (b"x-tenant-id", b"odd-8")],
        &many,
    ];
    // Unusable ids are all the tenant `anonymous`, whose burst is ten: they fit into it.
    for headers in requests {
        let answer = exchange(gateway, "/products", headers).await?;
        ensure!(answer.status == 200, "{headers:?} was answered {answer:?}");
    }
    // After them, everybody is served as before, on every worker.
    for round in 0..10 {
        let tenant = format!("after-{round}");
        let answer = exchange(gateway, "/products", &[(b"x-tenant-id", tenant.as_bytes())]).await?;
        ensure!(answer.status == 200, "afterwards, {answer:?}");
    }
    for workload in ["ingressgateway", "product-service"] {
        let counters = mesh.envoy_stats(workload, "wasm").await?;
        ensure!(
            counters
                .iter()
                .any(|(name, n)| name.ends_with(".active") && *n > 0),
            "no VM runs: {counters:?}"
        );
        let failed: Vec<_> = counters
            .iter()
            .filter(|(name, n)| {
                *n > 0
                    && ["fail", "vm_reload", "reject"]
                        .iter()
                        .any(|word| name.contains(word))
            })
            .collect();
        let watched = counters.iter().any(|(name, _)| name.contains("vm_reload"));
        ensure!(watched, "no counter of failed VMs among {counters:?}");
        ensure!(failed.is_empty(), "{failed:?}");
    }
    Ok(())
}
