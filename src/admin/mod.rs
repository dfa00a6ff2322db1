//! The admin edge: what the command line asks of a running gateway beyond the Pub/Sub API.
//!
//! Same listeners, same sign-in and same trailers as the Pub/Sub API. Listing and describing topics and
//! schemas, and checking a schema, takes a right to them; everything else takes an administrator.
//!
//! Source: `proto/tidegate/admin/v1/admin.proto`.

mod accounts;
mod backup;
mod channels;
mod managed;
mod removal;
mod schemas;
mod tokens;
mod topics;

use std::sync::Arc;

use tonic::{Request, Response, Status};

use crate::{
    auth::{Authenticator, sign_in::SignIn, token::TokenStore},
    broker::Broker,
    grpc::{
        Call,
        status::{RpcError, kinds},
    },
    proto::admin::{
        AddChannelMemberRequest, ApplyChannelsRequest, ApplyChannelsResponse, BackupRequest,
        BackupResponse, Channel, ConfirmRetentionRequest, ConfirmRetentionResponse,
        CreateClientRequest, CreateClientResponse, CreateManagedSubscriptionRequest,
        CreateTokenRequest, CreateTokenResponse, CreateUserRequest, CreateUserResponse,
        DeleteChannelRequest, DeleteChannelResponse, DeleteClientRequest, DeleteClientResponse,
        DeleteTopicRequest, DeleteTopicResponse, DeleteUserRequest, DeleteUserResponse,
        DescribeSchemaRequest, DescribeSchemaRulesRequest, DescribeTopicRequest,
        EraseEventsRequest, EraseEventsResponse, ListChannelsRequest, ListChannelsResponse,
        ListClientsRequest, ListClientsResponse, ListManagedSubscriptionsRequest,
        ListManagedSubscriptionsResponse, ListSchemasRequest, ListSchemasResponse,
        ListTokensRequest, ListTokensResponse, ListTopicsRequest, ListTopicsResponse,
        ListUsersRequest, ListUsersResponse, ManagedSubscription, ManagedSubscriptionKey,
        NewChannel, RegisterSchemaRequest, ReleaseManagedSubscriptionResponse,
        RemoveChannelMemberRequest, ResolveTimeRequest, ResolveTimeResponse, RetireSchemaRequest,
        RetireSchemaResponse, RevokeTokenRequest, RevokeTokenResponse, SchemaRules, SchemaVerdict,
        SchemaVersion, SetSchemaRulesRequest, SetTopicRequest, Topic, UpdateChannelRequest,
        UpdateManagedSubscriptionRequest, admin_server,
    },
    schema::watch::SchemaFiles,
    types::Principal,
};

pub use backup::Backups;

/// Answers the admin service. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Admin {
    broker: Broker,
    authenticator: Arc<dyn Authenticator>,
    tokens: Arc<TokenStore>,
    sign_in: Arc<SignIn>,
    backups: Backups,
    schema_files: SchemaFiles,
}

impl Admin {
    /// A service over these engines.
    pub fn new(
        broker: Broker,
        authenticator: Arc<dyn Authenticator>,
        tokens: Arc<TokenStore>,
        sign_in: Arc<SignIn>,
        backups: Backups,
        schema_files: SchemaFiles,
    ) -> Self {
        Self {
            broker,
            authenticator,
            tokens,
            sign_in,
            backups,
            schema_files,
        }
    }

    async fn authenticate(&self, call: &Call) -> Result<Principal, RpcError> {
        Ok(self
            .authenticator
            .authenticate(&call.credentials()?)
            .await?)
    }

    /// Who is calling, if that is an administrator.
    async fn administrator(&self, call: &Call) -> Result<Principal, RpcError> {
        let principal = self.authenticate(call).await?;
        if !principal.grants.admin {
            return Err(kinds::ADMIN_PERMISSION.error("this takes an administrator's token"));
        }
        Ok(principal)
    }
}

#[tonic::async_trait]
impl admin_server::Admin for Admin {
    async fn list_topics(
        &self,
        request: Request<ListTopicsRequest>,
    ) -> Result<Response<ListTopicsResponse>, Status> {
        let call = Call::of(&request);
        call.finish(self.topics(&call).await)
    }

    async fn describe_topic(
        &self,
        request: Request<DescribeTopicRequest>,
    ) -> Result<Response<Topic>, Status> {
        let call = Call::of(&request);
        call.finish(self.topic(&call, request.into_inner()).await)
    }

    async fn resolve_time(
        &self,
        request: Request<ResolveTimeRequest>,
    ) -> Result<Response<ResolveTimeResponse>, Status> {
        let call = Call::of(&request);
        call.finish(self.place_of(&call, request.into_inner()).await)
    }

    async fn delete_topic(
        &self,
        request: Request<DeleteTopicRequest>,
    ) -> Result<Response<DeleteTopicResponse>, Status> {
        let call = Call::of(&request);
        call.finish(self.delete(&call, request.into_inner()).await)
    }

    async fn set_topic(
        &self,
        request: Request<SetTopicRequest>,
    ) -> Result<Response<Topic>, Status> {
        let call = Call::of(&request);
        call.finish(self.set(&call, request.into_inner()).await)
    }

    async fn erase_events(
        &self,
        request: Request<EraseEventsRequest>,
    ) -> Result<Response<EraseEventsResponse>, Status> {
        let call = Call::of(&request);
        call.finish(self.erase(&call, request.into_inner()).await)
    }

    async fn confirm_retention(
        &self,
        request: Request<ConfirmRetentionRequest>,
    ) -> Result<Response<ConfirmRetentionResponse>, Status> {
        let call = Call::of(&request);
        call.finish(self.confirm_retention(&call).await)
    }

    async fn list_schemas(
        &self,
        request: Request<ListSchemasRequest>,
    ) -> Result<Response<ListSchemasResponse>, Status> {
        let call = Call::of(&request);
        call.finish(self.schemas(&call, request.into_inner()).await)
    }

    async fn register_schema(
        &self,
        request: Request<RegisterSchemaRequest>,
    ) -> Result<Response<SchemaVerdict>, Status> {
        let call = Call::of(&request);
        call.finish(self.register(&call, request.into_inner()).await)
    }

    async fn check_schema(
        &self,
        request: Request<RegisterSchemaRequest>,
    ) -> Result<Response<SchemaVerdict>, Status> {
        let call = Call::of(&request);
        call.finish(self.check(&call, request.into_inner()).await)
    }

    async fn describe_schema(
        &self,
        request: Request<DescribeSchemaRequest>,
    ) -> Result<Response<SchemaVersion>, Status> {
        let call = Call::of(&request);
        call.finish(self.version(&call, request.into_inner()).await)
    }

    async fn retire_schema(
        &self,
        request: Request<RetireSchemaRequest>,
    ) -> Result<Response<RetireSchemaResponse>, Status> {
        let call = Call::of(&request);
        call.finish(self.retire(&call, request.into_inner()).await)
    }

    async fn describe_schema_rules(
        &self,
        request: Request<DescribeSchemaRulesRequest>,
    ) -> Result<Response<SchemaRules>, Status> {
        let call = Call::of(&request);
        call.finish(self.rules(&call, request.into_inner()).await)
    }

    async fn set_schema_rules(
        &self,
        request: Request<SetSchemaRulesRequest>,
    ) -> Result<Response<SchemaRules>, Status> {
        let call = Call::of(&request);
        call.finish(self.set_rules(&call, request.into_inner()).await)
    }

    async fn create_token(
        &self,
        request: Request<CreateTokenRequest>,
    ) -> Result<Response<CreateTokenResponse>, Status> {
        let call = Call::of(&request);
        call.finish(self.create(&call, request.into_inner()).await)
    }

    async fn list_tokens(
        &self,
        request: Request<ListTokensRequest>,
    ) -> Result<Response<ListTokensResponse>, Status> {
        let call = Call::of(&request);
        call.finish(self.list(&call).await)
    }

    async fn revoke_token(
        &self,
        request: Request<RevokeTokenRequest>,
    ) -> Result<Response<RevokeTokenResponse>, Status> {
        let call = Call::of(&request);
        call.finish(self.revoke(&call, request.into_inner()).await)
    }

    async fn backup(
        &self,
        request: Request<BackupRequest>,
    ) -> Result<Response<BackupResponse>, Status> {
        let call = Call::of(&request);
        call.finish(self.back_up(&call, request.into_inner()).await)
    }

    async fn create_managed_subscription(
        &self,
        request: Request<CreateManagedSubscriptionRequest>,
    ) -> Result<Response<ManagedSubscription>, Status> {
        let call = Call::of(&request);
        call.finish(self.create_managed(&call, request.into_inner()).await)
    }

    async fn list_managed_subscriptions(
        &self,
        request: Request<ListManagedSubscriptionsRequest>,
    ) -> Result<Response<ListManagedSubscriptionsResponse>, Status> {
        let call = Call::of(&request);
        call.finish(self.list_managed(&call).await)
    }

    async fn update_managed_subscription(
        &self,
        request: Request<UpdateManagedSubscriptionRequest>,
    ) -> Result<Response<ManagedSubscription>, Status> {
        let call = Call::of(&request);
        call.finish(self.update_managed(&call, request.into_inner()).await)
    }

    async fn delete_managed_subscription(
        &self,
        request: Request<ManagedSubscriptionKey>,
    ) -> Result<Response<ManagedSubscription>, Status> {
        let call = Call::of(&request);
        call.finish(self.delete_managed(&call, request.into_inner()).await)
    }

    async fn release_managed_subscription(
        &self,
        request: Request<ManagedSubscriptionKey>,
    ) -> Result<Response<ReleaseManagedSubscriptionResponse>, Status> {
        let call = Call::of(&request);
        call.finish(self.release_managed(&call, request.into_inner()).await)
    }

    async fn create_channel(
        &self,
        request: Request<NewChannel>,
    ) -> Result<Response<Channel>, Status> {
        let call = Call::of(&request);
        call.finish(self.make_channel(&call, request.into_inner()).await)
    }

    async fn list_channels(
        &self,
        request: Request<ListChannelsRequest>,
    ) -> Result<Response<ListChannelsResponse>, Status> {
        let call = Call::of(&request);
        call.finish(self.channels(&call).await)
    }

    async fn update_channel(
        &self,
        request: Request<UpdateChannelRequest>,
    ) -> Result<Response<Channel>, Status> {
        let call = Call::of(&request);
        call.finish(self.label_channel(&call, request.into_inner()).await)
    }

    async fn add_channel_member(
        &self,
        request: Request<AddChannelMemberRequest>,
    ) -> Result<Response<Channel>, Status> {
        let call = Call::of(&request);
        call.finish(self.add_member(&call, request.into_inner()).await)
    }

    async fn remove_channel_member(
        &self,
        request: Request<RemoveChannelMemberRequest>,
    ) -> Result<Response<Channel>, Status> {
        let call = Call::of(&request);
        call.finish(self.remove_member(&call, request.into_inner()).await)
    }

    async fn delete_channel(
        &self,
        request: Request<DeleteChannelRequest>,
    ) -> Result<Response<DeleteChannelResponse>, Status> {
        let call = Call::of(&request);
        call.finish(self.remove_channel(&call, request.into_inner()).await)
    }

    async fn apply_channels(
        &self,
        request: Request<ApplyChannelsRequest>,
    ) -> Result<Response<ApplyChannelsResponse>, Status> {
        let call = Call::of(&request);
        call.finish(self.apply(&call, request.into_inner()).await)
    }

    async fn create_client(
        &self,
        request: Request<CreateClientRequest>,
    ) -> Result<Response<CreateClientResponse>, Status> {
        let call = Call::of(&request);
        call.finish(self.make_client(&call, request.into_inner()).await)
    }

    async fn list_clients(
        &self,
        request: Request<ListClientsRequest>,
    ) -> Result<Response<ListClientsResponse>, Status> {
        let call = Call::of(&request);
        call.finish(self.every_client(&call).await)
    }

    async fn delete_client(
        &self,
        request: Request<DeleteClientRequest>,
    ) -> Result<Response<DeleteClientResponse>, Status> {
        let call = Call::of(&request);
        call.finish(self.remove_client(&call, request.into_inner()).await)
    }

    async fn create_user(
        &self,
        request: Request<CreateUserRequest>,
    ) -> Result<Response<CreateUserResponse>, Status> {
        let call = Call::of(&request);
        call.finish(self.make_user(&call, request.into_inner()).await)
    }

    async fn list_users(
        &self,
        request: Request<ListUsersRequest>,
    ) -> Result<Response<ListUsersResponse>, Status> {
        let call = Call::of(&request);
        call.finish(self.every_user(&call).await)
    }

    async fn delete_user(
        &self,
        request: Request<DeleteUserRequest>,
    ) -> Result<Response<DeleteUserResponse>, Status> {
        let call = Call::of(&request);
        call.finish(self.remove_user(&call, request.into_inner()).await)
    }
}
