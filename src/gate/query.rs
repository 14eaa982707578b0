//! The query: finds Sidegate's parameters, judges them, cuts them out; every other byte keeps its
//! value, order and encoding.

use std::borrow::Cow;

use super::spelling::{Param, some_reader_takes_it_for_ours};
use crate::refusal::Refusal;

/// What one parameter of ours looks like in a query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Found<'a> {
    #[default]
    Nowhere,
    /// Once, with this raw value.
    Once(&'a str),
    Repeated,
}

/// What is wrong with a query on any route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// A control character or a space, raw.
    Control,
    /// A parameter of ours hidden behind a `;`, or spelled so that only some reader takes it for ours.
    Hidden,
}

/// The parameters of ours in one query. Nothing is judged by finding them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Params<'a> {
    found: [Found<'a>; Param::ALL.len()],
    fault: Option<Fault>,
}

/// Finds the parameters of ours in a raw query.
#[must_use]
pub fn read(query: Option<&str>) -> Params<'_> {
    let mut params = Params::default();
    let Some(query) = query else {
        return params;
    };
    if query.bytes().any(|b| b <= b' ' || b == 0x7F)
        || (!query.is_ascii() && query.chars().any(char::is_control))
    {
        params.fault = Some(Fault::Control);
    }
    for pair in query.split('&') {
        let (name, value) = name_and_value(pair);
        let plain = Param::plain(name);
        if let Some(param) = plain {
            let place = &mut params.found[param as usize];
            *place = match place {
                Found::Nowhere => Found::Once(value),
                Found::Once(_) | Found::Repeated => Found::Repeated,
            };
        }
        if params.fault.is_none() && is_hiding(pair, name, plain) {
            params.fault = Some(Fault::Hidden);
        }
    }
    params
}

fn name_and_value(pair: &str) -> (&str, &str) {
    pair.split_once('=').unwrap_or((pair, ""))
}

/// Whether some reader finds one of ours in `pair` that is not the one it plainly is.
fn is_hiding(pair: &str, name: &str, plain: Option<Param>) -> bool {
    if plain.is_none() && some_reader_takes_it_for_ours(name) {
        return true;
    }
    // Perl, old Python and old servlet containers split at `;` too.
    pair.contains(';')
        && pair
            .split(';')
            .skip(usize::from(plain.is_some()))
            .any(|piece| some_reader_takes_it_for_ours(name_and_value(piece).0))
}

impl<'a> Params<'a> {
    /// Whether `param` is there, be it well-formed or not.
    #[must_use]
    pub fn has(&self, param: Param) -> bool {
        self.found[param as usize] != Found::Nowhere
    }

    /// Whether any parameter of ours is there.
    #[must_use]
    pub fn has_any(&self) -> bool {
        self.found.iter().any(|found| *found != Found::Nowhere)
    }

    /// What is refused on every route, public ones included.
    ///
    /// # Errors
    /// 400 `invalid_request`.
    pub fn refuse_everywhere(&self) -> Result<(), Refusal> {
        match self.fault {
            None => Ok(()),
            Some(Fault::Control) => Err(Refusal::invalid_request(
                "the query has a control character or a space that must be percent-encoded",
            )),
            Some(Fault::Hidden) => Err(Refusal::invalid_request(
                "the query has a parameter that some reader takes for access_token, sudo, tenantId \
                 or tenantCode: spell it exactly so and separate parameters by &",
            )),
        }
    }

    /// The form-decoded value of `param`; `None` where it is not there.
    ///
    /// # Errors
    /// 400 `invalid_request` when it is there twice, or its value has control characters, invalid
    /// UTF-8 or white space at either end.
    pub fn value(&self, param: Param) -> Result<Option<Cow<'a, str>>, Refusal> {
        let raw = match self.found[param as usize] {
            Found::Nowhere => return Ok(None),
            Found::Once(raw) => raw,
            Found::Repeated => {
                let name = param.as_str();
                return Err(Refusal::invalid_request(format!(
                    "the parameter {name} is there more than once"
                )));
            }
        };
        let value = form_decode(raw).filter(|value| is_clean(value));
        value.map(Some).ok_or_else(|| {
            let name = param.as_str();
            Refusal::invalid_request(format!(
                "the value of {name} must be UTF-8 without control characters and without white \
                 space at either end; a + is written %2B"
            ))
        })
    }
}

/// Whether a decoded value has no control character and no white space at either end.
#[must_use]
pub(super) fn is_clean(value: &str) -> bool {
    !value.starts_with(char::is_whitespace)
        && !value.ends_with(char::is_whitespace)
        && !value.chars().any(char::is_control)
}

/// `+` is a space, then percent-decoding, once; `None` for invalid UTF-8.
fn form_decode(raw: &str) -> Option<Cow<'_, str>> {
    if !raw.bytes().any(|b| matches!(b, b'%' | b'+')) {
        return Some(Cow::Borrowed(raw));
    }
    let spaced = raw.replace('+', " ");
    let decoded = percent_encoding::percent_decode_str(&spaced).decode_utf8();
    decoded.ok().map(|text| Cow::Owned(text.into_owned()))
}

/// `query` without our parameters and their separators; `None` when nothing is left of it, so that no
/// `?` dangles. `access_token` stays with `keep_token`.
#[must_use]
pub fn without_ours(query: &str, keep_token: bool) -> Option<String> {
    let goes = |pair: &&str| match Param::plain(name_and_value(pair).0) {
        Some(Param::AccessToken) => !keep_token,
        Some(_) => true,
        None => false,
    };
    let mut rest = String::with_capacity(query.len());
    for (i, pair) in query.split('&').filter(|pair| !goes(pair)).enumerate() {
        if i > 0 {
            rest.push('&');
        }
        rest.push_str(pair);
    }
    (!rest.is_empty()).then_some(rest)
}

#[cfg(test)]
#[path = "tests/query.rs"]
mod tests;
