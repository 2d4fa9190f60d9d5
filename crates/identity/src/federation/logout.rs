//! Back-channel logout (OpenID Connect Back-Channel Logout 1.0): the provider says itself that somebody
//! logged out or was disabled.

use std::net::IpAddr;

use cloud_types::Fault;
use database::Origin;

use super::login::digest_of;
use super::{sessions, store};
use crate::Identity;
use crate::openid::claims;

impl Identity {
    /// Ends sessions as the provider says, by its logout token.
    ///
    /// # Errors
    /// 400 when the token is not accepted, as the standard asks.
    pub(crate) async fn back_channel_logout(
        &self,
        idp: &str,
        protocol: &str,
        token: &str,
        source: Option<IpAddr>,
    ) -> Result<(), Fault> {
        let attempt = self.throttle.enter_from(source, self.kit.clock.now())?;
        let speaking = self.speaking(idp, protocol).await?;
        let refused = |why: String| {
            tracing::info!(idp, why, "a logout token was refused");
            Fault::bad_request(format!("The logout token is not accepted: {why}."))
        };
        let checked =
            speaking.provider.verify(token).await.map_err(|error| speaking.fault(&error))?;
        let signed = checked.map_err(|error| refused(error.to_string()))?;
        let client = &speaking.client;
        let now = self.kit.clock.now();
        let logout = claims::check_logout_token(&signed, &client.issuer, &client.client_id, now)
            .map_err(refused)?;
        let once = digest_of(&format!("logout {} {}", client.issuer, logout.id));
        let (idp, protocol) = (idp.to_owned(), protocol.to_owned());
        // In one transaction: a token that counts as used has ended what it names.
        let ended = self
            .kit
            .db
            .transact(&Origin::system("federated-login"), move |tx| {
                let (idp, protocol, logout) = (idp.clone(), protocol.clone(), logout.clone());
                let once = once.clone();
                Box::pin(async move {
                    let until = tx.now().after(sessions::USED_KEPT);
                    if !store::use_once(tx, &once, until).await? {
                        return Ok(None);
                    }
                    // A session of the provider's where it names one, else all of the person.
                    let subject = logout.subject.as_deref().filter(|_| logout.session.is_none());
                    let session = logout.session.as_deref();
                    let mut revocations = Vec::new();
                    for session in store::sessions_of(tx, &idp, &protocol, subject, session).await?
                    {
                        let why = "the provider says that the person logged out";
                        revocations.extend(sessions::end_in(tx, &session, why).await?);
                    }
                    Ok::<_, Fault>(Some(revocations))
                })
            })
            .await?;
        match ended {
            None => Err(refused("it was used already".to_owned())),
            Some(revocations) => {
                attempt.give_back();
                self.changed(&revocations);
                Ok(())
            }
        }
    }
}
