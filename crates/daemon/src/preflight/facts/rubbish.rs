//! Whatever stands in a file, no parser panics.

use super::kernels::Kernel;
use super::lvm::Filter;
use super::packages::Packages;
use super::{mdadm, network, proxy, texts};
use crate::preflight::{fix, server};
use proptest::prelude::*;

/// Bytes at random, and the words of the formats in any order.
fn text() -> impl Strategy<Value = String> {
    let words = "([a-z\"'\\\\/|{}()\\[\\]=:;.,#*0-9-]|auto|iface|inet|\\[Match\\]|Name=|wwid|blacklist_exceptions|global_filter| - |\n| |\t|-81-|HTTP/1.1 200|Date: |\\\\04|# BEGIN master-target|# END master-target){0,80}";
    let bytes = proptest::collection::vec(any::<u8>(), 0..400);
    prop_oneof![words, bytes.prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned())]
}

proptest! {
    #[test]
    fn no_parser_panics(text in text()) {
        let _ = Kernel::parse(&text);
        let _ = Filter::parse(&text).map(|filter| filter.accepts(std::slice::from_ref(&text)));
        let _ = (mdadm::auto(&text).map(|words| mdadm::is_off(&words)), mdadm::lists_arrays(&text));
        let _ = Packages::parse(&text).kernel_packages(&text);
        let _ = (network::addresses(&text), network::addresses_of(&text, "mt"));
        let _ = network::ifupdown_starts(&text, "e") || network::networkd_matches(&text, "ens160", Some("00"));
        let _ = network::network_manager_starts(&text, "e") || network::netplan_names(&text, "e");
        let mut settings = proxy::Settings::default();
        settings.add_assignments(&text);
        let _ = settings.excepts(&text);
        let _ = (texts::os_release(&text, "ID"), texts::total_memory(&text), texts::cpus_in_list(&text));
        let _ = (texts::apt_setting(&text, "A"), texts::settings(&text, "Match", "Name"));
        let _ = server::http::parse(text.as_bytes());
        let _ = server::http::date(&text);
        let _ = server::certificate::validity(text.as_bytes());
        let _ = server::parse_address(&text, 443);
        let _ = fix::block::without(&text, "#");
    }

    #[test]
    fn no_parser_of_bytes_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = server::certificate::validity(&bytes);
        let _ = server::http::parse(&bytes);
    }
}
