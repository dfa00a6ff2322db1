//! Client applications and users: made, listed and deleted by administrators.

use super::{
    Admin,
    tokens::{grants_message, parse_grants},
};
use crate::{
    auth::{
        accounts::{Account, AccountError},
        clients::Client,
        users::Password,
    },
    grpc::{
        Call,
        status::{RpcError, kinds},
    },
    proto::admin::{
        self, CreateClientRequest, CreateClientResponse, CreateUserRequest, CreateUserResponse,
        DeleteClientRequest, DeleteClientResponse, DeleteUserRequest, DeleteUserResponse,
        ListClientsResponse, ListUsersResponse,
    },
};

impl Admin {
    pub(super) async fn make_client(
        &self,
        call: &Call,
        request: CreateClientRequest,
    ) -> Result<CreateClientResponse, RpcError> {
        let principal = self.administrator(call).await?;
        let grants = parse_grants(request.grants.unwrap_or_default())?;
        let (name, certificates) = (&request.name, &request.certificates);
        let (client, secret) = self
            .sign_in
            .create_client(principal.tenant, name, grants, certificates)
            .await?;
        Ok(CreateClientResponse {
            client: Some(client_message(&client)),
            client_secret: secret.expose().to_owned(),
        })
    }

    pub(super) async fn every_client(&self, call: &Call) -> Result<ListClientsResponse, RpcError> {
        let principal = self.administrator(call).await?;
        let clients = self.sign_in.clients(principal.tenant);
        Ok(ListClientsResponse {
            clients: clients
                .iter()
                .map(|client| client_message(client))
                .collect(),
        })
    }

    pub(super) async fn remove_client(
        &self,
        call: &Call,
        request: DeleteClientRequest,
    ) -> Result<DeleteClientResponse, RpcError> {
        let principal = self.administrator(call).await?;
        let id = &request.client_id;
        self.sign_in.delete_client(principal.tenant, id).await?;
        Ok(DeleteClientResponse {})
    }

    pub(super) async fn make_user(
        &self,
        call: &Call,
        request: CreateUserRequest,
    ) -> Result<CreateUserResponse, RpcError> {
        let principal = self.administrator(call).await?;
        let grants = parse_grants(request.grants.unwrap_or_default())?;
        let is_given = !request.password.is_empty();
        let password = if is_given {
            Password::new(request.password)?
        } else {
            Password::random().map_err(|error| AccountError::Store(error.into()))?
        };
        let username = &request.username;
        let user = self
            .sign_in
            .create_user(principal.tenant, username, &password, grants)
            .await?;
        let made = if is_given { "" } else { password.expose() };
        Ok(CreateUserResponse {
            user: Some(user_message(&user)),
            password: made.to_owned(),
        })
    }

    pub(super) async fn every_user(&self, call: &Call) -> Result<ListUsersResponse, RpcError> {
        let principal = self.administrator(call).await?;
        let users = self.sign_in.users(principal.tenant);
        Ok(ListUsersResponse {
            users: users
                .iter()
                .map(|user| user_message(&user.account))
                .collect(),
        })
    }

    pub(super) async fn remove_user(
        &self,
        call: &Call,
        request: DeleteUserRequest,
    ) -> Result<DeleteUserResponse, RpcError> {
        let principal = self.administrator(call).await?;
        let username = &request.username;
        self.sign_in.delete_user(principal.tenant, username).await?;
        Ok(DeleteUserResponse {})
    }
}

fn client_message(client: &Client) -> admin::Client {
    let account = &client.account;
    admin::Client {
        client_id: account.id.to_string(),
        name: account.name.to_string(),
        grants: Some(grants_message(&account.grants)),
        created_at_ms: account.created_at.as_millis(),
        certificate_count: u32::try_from(client.keys.len()).unwrap_or(u32::MAX),
        user_id: account.user_id.to_string(),
    }
}

fn user_message(account: &Account) -> admin::User {
    admin::User {
        username: account.name.to_string(),
        user_id: account.user_id.to_string(),
        grants: Some(grants_message(&account.grants)),
        created_at_ms: account.created_at.as_millis(),
    }
}

impl From<AccountError> for RpcError {
    fn from(error: AccountError) -> Self {
        let kind = match &error {
            AccountError::Unknown => kinds::ADMIN_NOT_FOUND,
            AccountError::TooMany => kinds::PROTECTION,
            AccountError::Busy | AccountError::DiskFull => kinds::UNAVAILABLE,
            AccountError::Store(_) => kinds::OUTAGE,
            AccountError::Taken
            | AccountError::Name
            | AccountError::Username
            | AccountError::Password
            | AccountError::Certificates
            | AccountError::Certificate(_) => kinds::ADMIN_REQUEST_INVALID,
        };
        kind.error(error.to_string()).because(error)
    }
}
