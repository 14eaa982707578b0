//! The legacy OAuth 2 server, as its document spells it (contract §5): `tokens`, `tokens/check` and
//! `tokens/revoke`. Credentials are read from query and form only; an `Authorization` header is not
//! looked at, but a client that sent one and failed is challenged as RFC 6749 §5.2 asks.
//!
//! `tokens` is judged in this order: malformed or repeated parameters, missing ones, the grant type,
//! the client, the scope.

use http::header::{ALLOW, AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde::Serialize;

use super::form::{FormError, Parameters};
use super::{Asked, Told, answer_json};
use crate::base::oauth::Scopes;
use crate::clients::registry::AuthenticateError;
use crate::observe::AuditLine;
use crate::refusal::Refusal;
use crate::tokens::issue::{IssueError, issue};
use crate::tokens::{PresentedToken, Revocation};

/// What went wrong, in the words of RFC 6749 §5.2.
struct Failure {
    status: StatusCode,
    error: &'static str,
    description: String,
}

impl Failure {
    fn bad(error: &'static str, description: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            error,
            description: description.into(),
        }
    }

    /// 503: nothing can be said now.
    fn away() -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            error: "temporarily_unavailable",
            description: "tokens cannot be issued or checked at the moment, try again".to_owned(),
        }
    }

    fn answer(self, headers: &HeaderMap) -> Response<bytes::Bytes> {
        #[derive(Serialize)]
        struct Body<'a> {
            error: &'a str,
            error_description: &'a str,
        }
        let body = Body {
            error: self.error,
            error_description: &self.description,
        };
        let mut response = answer_json(self.status, &body);
        response.extensions_mut().insert(Told {
            error: Some(self.error),
            ..Told::default()
        });
        if self.status == StatusCode::UNAUTHORIZED && headers.contains_key(AUTHORIZATION) {
            let challenge = HeaderValue::from_static("Basic realm=\"sidegate\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            let wait = HeaderValue::from_static("5");
            response.headers_mut().insert(RETRY_AFTER, wait);
        }
        response
    }
}

impl From<FormError> for Failure {
    fn from(error: FormError) -> Self {
        Self::bad("invalid_request", error.to_string())
    }
}

/// `invalid_request` for what stands around the parameters.
pub(super) fn invalid_request(asked: &Asked, description: &str) -> Response<bytes::Bytes> {
    Failure::bad("invalid_request", description).answer(&asked.headers)
}

/// The four members of a token; numbers are strings here.
#[derive(Serialize)]
struct TokenAnswer<'a> {
    access_token: &'a str,
    token_type: &'static str,
    expires_in: String,
    scope: String,
}

#[derive(Serialize)]
struct RevokeAnswer {
    code: u8,
    msg: &'static str,
}

/// `{oauth2_server}/tokens`.
pub(super) async fn tokens(asked: &Asked) -> Response<bytes::Bytes> {
    let outcome = issue_token(asked).await;
    outcome.unwrap_or_else(|failure| asked.failed(failure))
}

/// `{oauth2_server}/tokens/check`.
pub(super) async fn check(asked: &Asked) -> Response<bytes::Bytes> {
    let outcome = check_token(asked).await;
    outcome.unwrap_or_else(|failure| asked.failed(failure))
}

/// `{oauth2_server}/tokens/revoke`.
pub(super) async fn revoke(asked: &Asked) -> Response<bytes::Bytes> {
    let outcome = revoke_token(asked).await;
    outcome.unwrap_or_else(|failure| asked.failed(failure))
}

impl Asked {
    /// A failed credential counts, and beyond the limit is answered with 429 instead.
    fn failed(&self, failure: Failure) -> Response<bytes::Bytes> {
        let counts = matches!(failure.error, "invalid_client" | "invalid_token");
        if counts && let Some(refused) = self.over_failed_credentials() {
            return refused;
        }
        failure.answer(&self.headers)
    }

    fn over_failed_credentials(&self) -> Option<Response<bytes::Bytes>> {
        let limits = self.deps.limits.load();
        let exceeded = match limits.failed_credential(self.from.ip, self.now) {
            Err(exceeded) => exceeded,
            Ok(shadowed) => {
                if let Some(over) = shadowed {
                    self.deps.metrics.rate_limited(over.limit().name(), true);
                }
                return None;
            }
        };
        let name = exceeded.limit().name();
        let refusal = Refusal::rate_limited(name, exceeded.retry_after);
        let mut response = self.refusal(&refusal);
        response.extensions_mut().insert(Told {
            error: Some(refusal.word().as_str()),
            limit: Some(name.to_owned()),
            limit_ns: Some(self.now.mono_nanos),
            ..Told::default()
        });
        Some(response)
    }

    fn parameters(&self, known: &[&'static str]) -> Result<Parameters, FormError> {
        Parameters::read(known, self.query.as_deref(), self.form.as_deref())
    }
}

async fn issue_token(asked: &Asked) -> Result<Response<bytes::Bytes>, Failure> {
    let known = ["grant_type", "client_id", "client_secret", "scope"];
    let parameters = asked.parameters(&known)?;
    let grant_type = parameters.need("grant_type")?;
    let id = parameters.need("client_id")?;
    let secret = parameters.need("client_secret")?;
    if grant_type != "client_credentials" {
        let description = "the only grant type here is client_credentials";
        return Err(Failure::bad("unsupported_grant_type", description));
    }
    let deps = &asked.deps;
    let now = asked.now.wall();
    let authenticated = deps.registry.authenticate(id, secret, now).await;
    let client = authenticated.map_err(|error| match error {
        AuthenticateError::Wrong => Failure {
            status: StatusCode::UNAUTHORIZED,
            ..Failure::bad("invalid_client", error.to_string())
        },
        AuthenticateError::Unavailable => Failure::away(),
    })?;
    let scopes = match parameters.get("scope") {
        None => client.scopes.clone(),
        Some(text) => {
            let wanted = Scopes::parse(text).map_err(|why| Failure::bad("invalid_scope", why))?;
            if wanted.is_empty() || !client.scopes.holds_all(&wanted) {
                let description = "a scope asked for is not one of this client's";
                return Err(Failure::bad("invalid_scope", description));
            }
            client.scopes.within(&wanted) // spelled as the client was given them
        }
    };
    let ttl = deps.token_settings.access_token_ttl;
    let issued = issue(&*deps.tokens, &client.id, scopes, ttl, now).await;
    let issued = issued.map_err(|error| {
        tracing::warn!(error = %error, "a token could not be issued");
        match error {
            IssueError::Store(_) => Failure::away(),
            IssueError::NoRandomness => Failure {
                status: StatusCode::INTERNAL_SERVER_ERROR,
                ..Failure::bad("server_error", "no token could be made")
            },
        }
    })?;
    let scope = issued.scopes.to_string();
    deps.metrics.tokens_issued.inc();
    deps.lines.audit(&AuditLine {
        client_id: Some(client.id.as_str()),
        token_id: Some(issued.id.0),
        scope: Some(&scope),
        ..asked.audit("token_issued")
    });
    let body = TokenAnswer {
        access_token: issued.token.expose(),
        token_type: "bearer",
        expires_in: ttl.as_secs().to_string(),
        scope,
    };
    let mut response = answer_json(StatusCode::OK, &body);
    response.extensions_mut().insert(Told {
        client_id: Some(client.id.clone()),
        token_id: Some(issued.id.0),
        ..Told::default()
    });
    Ok(response)
}

async fn check_token(asked: &Asked) -> Result<Response<bytes::Bytes>, Failure> {
    let invalid = || {
        let description = "the token is unknown, expired or revoked";
        Failure::bad("invalid_token", description)
    };
    let parameters = asked.parameters(&["token"])?;
    let text = parameters.need("token")?;
    let token = PresentedToken::parse(text).ok_or_else(invalid)?;
    let deps = &asked.deps;
    let facts = deps.verifier.verify(&token, asked.now).await;
    let facts = facts.map_err(|_| Failure::away())?.ok_or_else(invalid)?;
    // What was given, as far as the client still has it.
    let client = deps.registry.get(facts.client_id()).ok_or_else(|| {
        // Not yet read is not removed: that must never read as a bad token.
        match deps.registry.may_lack_some() {
            true => Failure::away(),
            false => invalid(),
        }
    })?;
    let body = TokenAnswer {
        access_token: text,
        token_type: "bearer",
        expires_in: (facts.expires().since(asked.now.wall()).as_secs()).to_string(),
        scope: facts.scopes().within(&client.scopes).to_string(),
    };
    let mut response = answer_json(StatusCode::OK, &body);
    response.extensions_mut().insert(Told {
        client_id: Some(client.id.clone()),
        token_id: Some(facts.id().0),
        ..Told::default()
    });
    Ok(response)
}

async fn revoke_token(asked: &Asked) -> Result<Response<bytes::Bytes>, Failure> {
    let parameters = asked.parameters(&["token"])?;
    let text = parameters.need("token")?;
    let deps = &asked.deps;
    let mut record = None;
    let mut ended = false;
    if let Some(token) = PresentedToken::parse(text) {
        // For the audit line; what counts is the revocation itself.
        record = deps.tokens.find(&token.hash).await.ok().flatten();
        let which = Revocation::Hash(token.hash);
        let revoked = deps.tokens.revoke(which, asked.now.wall()).await;
        // Also after an error: it may have been done all the same.
        deps.verifier.forget(&token.hash);
        let revoked = revoked.map_err(|error| {
            tracing::warn!(error = %error, "a token could not be revoked");
            Failure::away()
        })?;
        ended = !revoked.is_empty();
    }
    if !ended {
        if let Some(refused) = asked.over_failed_credentials() {
            return Ok(refused);
        }
        let (code, msg) = (1, "token not found");
        return Ok(answer_json(StatusCode::OK, &RevokeAnswer { code, msg }));
    }
    deps.metrics.tokens_revoked.inc();
    deps.lines.audit(&AuditLine {
        client_id: record.as_ref().map(|record| record.client_id.as_str()),
        token_id: record.as_ref().map(|record| record.id.0),
        ..asked.audit("token_revoked")
    });
    let (code, msg) = (0, "success");
    let mut response = answer_json(StatusCode::OK, &RevokeAnswer { code, msg });
    response.extensions_mut().insert(Told {
        token_id: record.as_ref().map(|record| record.id.0),
        client_id: record.map(|record| record.client_id),
        ..Told::default()
    });
    Ok(response)
}

/// 405 with the methods that are there.
pub(super) fn method_not_allowed(asked: &Asked, allow: &'static str) -> Response<bytes::Bytes> {
    let refusal = Refusal::method_not_allowed(allow.to_owned());
    let mut response = asked.refusal(&refusal);
    let methods = HeaderValue::from_static(allow);
    response.headers_mut().insert(ALLOW, methods);
    response.extensions_mut().insert(Told {
        error: Some(refusal.word().as_str()),
        ..Told::default()
    });
    response
}

#[cfg(test)]
#[path = "tests/oauth2_server.rs"]
mod tests;
