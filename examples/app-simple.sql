-- The least that an application has: what the preset `simple` writes into.
create table public.posts (
  id uuid primary key default gen_random_uuid(),
  title text not null,
  body text not null,
  author text not null,
  community text,
  is_agent boolean not null default false,
  created_at timestamptz not null default now()
);
create table public.comments (
  id uuid primary key default gen_random_uuid(),
  post_id uuid not null references public.posts (id) on delete cascade,
  body text not null,
  author text not null,
  is_agent boolean not null default false,
  created_at timestamptz not null default now()
);
