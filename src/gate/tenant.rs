//! The tenant a request acts in: `tenantId` or `tenantCode`, and whether its client may.

use std::borrow::Cow;

use super::query::Params;
use super::settings::IdentityKey;
use super::spelling::Param;
use crate::clients::Client;
use crate::refusal::Refusal;

/// A well-formed tenant. Whether it is allowed is another question.
#[derive(Clone, Debug)]
pub enum Tenant<'a> {
    /// By `tenantId`.
    Id(Cow<'a, str>),
    /// By `tenantCode`.
    Code(Cow<'a, str>),
}

/// The tenant parameters of a request, each well-formed by itself.
#[derive(Clone, Debug)]
pub struct Named<'a> {
    id: Option<Cow<'a, str>>,
    code: Option<Cow<'a, str>>,
}

/// Reads both parameters.
///
/// # Errors
/// 400 `invalid_request` for what no parameter may hold.
pub fn read<'a>(params: &Params<'a>) -> Result<Named<'a>, Refusal> {
    Ok(Named {
        id: params.value(Param::TenantId)?,
        code: params.value(Param::TenantCode)?,
    })
}

impl<'a> Named<'a> {
    /// The one tenant that is meant, if any.
    ///
    /// # Errors
    /// 400 `invalid_request` for both at once and for an empty one.
    pub fn one(self) -> Result<Option<Tenant<'a>>, Refusal> {
        let tenant = match (self.id, self.code) {
            (None, None) => return Ok(None),
            (Some(id), None) => Tenant::Id(id),
            (None, Some(code)) => Tenant::Code(code),
            (Some(_), Some(_)) => {
                return Err(Refusal::invalid_request(
                    "send tenantId or tenantCode, not both",
                ));
            }
        };
        if tenant.value().is_empty() {
            return Err(Refusal::invalid_request(
                "the tenant is empty: leave the parameter out or give it a value",
            ));
        }
        Ok(Some(tenant))
    }
}

impl Tenant<'_> {
    /// Its id or code.
    #[must_use]
    pub fn value(&self) -> &str {
        match self {
            Self::Id(value) | Self::Code(value) => value,
        }
    }

    /// `id:VALUE` or `code:VALUE`: for log lines and rate limits.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Id(value) => format!("id:{value}"),
            Self::Code(value) => format!("code:{value}"),
        }
    }

    /// The header it becomes.
    #[must_use]
    pub fn header(&self) -> IdentityKey {
        match self {
            Self::Id(_) => IdentityKey::TenantId,
            Self::Code(_) => IdentityKey::TenantCode,
        }
    }

    /// Whether this client may act in it.
    ///
    /// # Errors
    /// 403 `tenant_not_allowed`.
    pub fn allow(&self, client: &Client) -> Result<(), Refusal> {
        let allowed = match self {
            Self::Id(id) => client.tenants.allows_id(id),
            Self::Code(code) => client.tenants.allows_code(code),
        };
        if allowed {
            Ok(())
        } else {
            Err(Refusal::tenant_not_allowed())
        }
    }
}

#[cfg(test)]
#[path = "tests/tenant.rs"]
mod tests;
