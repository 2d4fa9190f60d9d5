//! Microversions: the client names the dialect it speaks in a header, and the service answers in
//! exactly that one or refuses with 406. Nova's rules are the specification; the legacy header is
//! read when the general one does not name this service.

use std::fmt;
use std::str::FromStr;

use cloud_types::{Fault, FaultKind};
use http::HeaderMap;

/// The general header, `OpenStack-API-Version: compute 2.95`.
pub const HEADER: &str = "openstack-api-version";

/// A version such as 2.95; ordered by major, then minor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Microversion {
    /// The number before the dot.
    pub major: u16,
    /// The number after the dot.
    pub minor: u16,
}

impl Microversion {
    /// What a service without microversions is asked in.
    pub const NONE: Microversion = Microversion::new(0, 0);

    /// A version from its two numbers.
    pub const fn new(major: u16, minor: u16) -> Self {
        Microversion { major, minor }
    }

    /// Whether the client speaks `major.minor` or a later version.
    pub fn at_least(self, major: u16, minor: u16) -> bool {
        self >= Microversion::new(major, minor)
    }
}

impl fmt::Display for Microversion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for Microversion {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let number = |digits: &str| -> Result<u16, ()> {
            // Upstream's pattern is ^([1-9]\d*)\.([1-9]\d*|0)$: no leading zeros, no signs.
            let canonical = digits == "0" || !digits.starts_with('0');
            if canonical && !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
                digits.parse().map_err(|_| ())
            } else {
                Err(())
            }
        };
        let (major, minor) = text.split_once('.').ok_or(())?;
        let major = number(major)?;
        if major == 0 {
            return Err(());
        }
        Ok(Microversion::new(major, number(minor)?))
    }
}

/// What a service offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MicroversionRange {
    /// The word before the version in the general header.
    pub service_type: &'static str,
    /// The older header with the bare version, in lower case.
    pub legacy_header: Option<&'static str>,
    /// The oldest version, answered when the client names none.
    pub min: Microversion,
    /// The newest version, answered to `latest`.
    pub max: Microversion,
}

impl MicroversionRange {
    /// The version that a request asks for.
    ///
    /// # Errors
    /// 400 when the text is not a version, 406 when it is outside the range.
    pub fn negotiate(&self, headers: &HeaderMap) -> Result<Microversion, Fault> {
        let Some(wanted) = self.wanted(headers) else {
            return Ok(self.min);
        };
        if wanted.eq_ignore_ascii_case("latest") {
            return Ok(self.max);
        }
        let version: Microversion = wanted.parse().map_err(|()| {
            let shown: String = wanted.chars().take(64).collect();
            Fault::bad_request(format!(
                "API Version String {shown} is of invalid format. Must be of format \
                 MajorNum.MinorNum."
            ))
            .named("badRequest")
        })?;
        if version < self.min || version > self.max {
            return Err(Fault::new(
                FaultKind::NotAcceptable,
                format!(
                    "Version {version} is not supported by the API. Minimum is {} and maximum is \
                     {}.",
                    self.min, self.max
                ),
            ));
        }
        Ok(version)
    }

    fn wanted<'h>(&self, headers: &'h HeaderMap) -> Option<&'h str> {
        // Several services may be named, in one header separated by commas or in several headers;
        // the last one that names this service counts, as in microversion-parse.
        let general = headers
            .get_all(HEADER)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|part| part.trim().split_once(char::is_whitespace))
            .filter(|(service, _)| service.eq_ignore_ascii_case(self.service_type))
            .map(|(_, version)| version.trim())
            .next_back();
        general.or_else(|| {
            let name = self.legacy_header?;
            headers.get(name)?.to_str().ok().map(str::trim)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Service;

    fn negotiate(pairs: &[(&'static str, &str)]) -> Result<Microversion, Fault> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        Service::Compute.microversions().unwrap().negotiate(&headers)
    }

    #[test]
    fn the_general_header_wins_and_other_services_do_not_count() {
        let v = Microversion::new;
        assert_eq!(negotiate(&[]).unwrap(), v(2, 1));
        assert_eq!(negotiate(&[(HEADER, "compute 2.60")]).unwrap(), v(2, 60));
        assert_eq!(negotiate(&[(HEADER, "volume 3.60")]).unwrap(), v(2, 1));
        assert_eq!(negotiate(&[(HEADER, "volume 3.60, compute 2.4")]).unwrap(), v(2, 4));
        assert_eq!(negotiate(&[("x-openstack-nova-api-version", "2.10")]).unwrap(), v(2, 10));
        assert_eq!(
            negotiate(&[("x-openstack-nova-api-version", "2.10"), (HEADER, "compute latest")])
                .unwrap(),
            v(2, 96)
        );
    }

    #[test]
    fn what_is_not_offered_is_406_and_what_is_no_version_400() {
        for (text, status) in [
            ("compute 2.9999", 406),
            ("compute 3.0", 406),
            ("compute 1.0", 406),
            ("compute 2", 400),
            ("compute 2.01", 400),
            ("compute two", 400),
            ("compute 2.-1", 400),
            ("compute 2.99999999999", 400),
        ] {
            assert_eq!(negotiate(&[(HEADER, text)]).unwrap_err().status(), status, "{text}");
        }
    }
}
